// External memory behind the AXI4 port, as docs/memory.md states it.
//
// A cycle is: ready() and offers(), and for writes takes_address(), takes_beat() and answers(), say
// what the memory shows, then edge() and write_edge() what was handed over.

#ifndef BIVIT_EXTERNAL_MEMORY_H
#define BIVIT_EXTERNAL_MEMORY_H

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

class ExternalMemory {
public:
    static constexpr uint64_t NEVER = ~0ull;

    uint64_t latency = 1, interval = 1, write_latency = 1;
    std::vector<uint32_t> beat_stalls, address_stalls;  // trace, from the start again at its end
    uint64_t silent_from = NEVER, wrong = NEVER;  // beats of the present frame
    uint64_t short_burst = NEVER, long_burst = NEVER;  // its bursts: a beat fewer, or more
    uint64_t silent_writes = NEVER, wrong_write = NEVER;  // its written beats, its written bursts
    uint64_t base = 0;                            // byte address of the image
    size_t beat_bytes = 4;
    std::vector<uint8_t> image;

    // A new frame: the counts of beats and addresses begin again.
    void start() { beats_ = addresses_ = written_ = begun_ = answered_ = 0; }

    // Whether an address is taken in this cycle, in which one is offered or not. `held`: not yet.
    bool ready(uint64_t cycle, bool valid, bool held) {
        if (!valid) return false;
        if (offered_since_ == NEVER) offered_since_ = cycle;
        return !held && !silent() && cycle >= offered_since_ + stall(address_stalls, addresses_);
    }

    // Whether a beat is shown in this cycle; once shown it stays.
    bool offers(uint64_t cycle, bool held) {
        if (shown_ || queue_.empty() || silent()) return shown_;
        const uint64_t next = any_ ? last_ + interval : 0;
        const uint64_t due = std::max(queue_.front().start, next) + stall(beat_stalls, beats_);
        return shown_ = !held && cycle >= due;
    }

    bool last() const { return queue_.front().last; }
    bool error() const { return beats_ == wrong; }
    void data(void* to) const {
        std::memset(to, 0, beat_bytes);
        const uint64_t at = queue_.front().address - base;
        if (at < image.size())
            std::memcpy(to, &image[at], std::min<uint64_t>(beat_bytes, image.size() - at));
    }

    void edge(uint64_t cycle, bool address_taken, uint32_t address, uint32_t length,
              bool beat_taken) {
        if (beat_taken) {
            queue_.pop_front();
            shown_ = false, any_ = true, last_ = cycle, ++beats_;
        }
        if (!address_taken) return;
        if (addresses_ == short_burst) length -= length > 0;
        if (addresses_ == long_burst) ++length;
        for (uint32_t beat = 0; beat <= length; ++beat)
            queue_.push_back({beat ? 0 : cycle + latency, address + beat * beat_bytes,
                              beat == length});
        offered_since_ = NEVER, ++addresses_;
    }

    // Whether an address to write at is taken in this cycle.
    bool takes_address(uint64_t cycle, bool valid, bool held) {
        if (!valid) return false;
        if (begin_since_ == NEVER) begin_since_ = cycle;
        return !held && !mute() && cycle >= begin_since_ + stall(address_stalls, begun_);
    }

    bool takes_beat(uint64_t cycle, bool valid, bool held) {
        if (!valid) return false;
        if (beat_since_ == NEVER) beat_since_ = cycle;
        const uint64_t due = std::max(beat_since_, any_written_ ? last_written_ + interval : 0);
        return !held && !mute() && cycle >= due + stall(beat_stalls, written_);
    }

    // Whether a burst is answered in this cycle; once shown it stays.
    bool answers(uint64_t cycle, bool held) {
        if (answering_ || answers_.empty() || mute()) return answering_;
        return answering_ = !held && cycle >= answers_.front();
    }

    bool wrong_answer() const { return answered_ == wrong_write; }

    void write_edge(uint64_t cycle, bool address_taken, uint32_t address, uint32_t length,
                    bool beat_taken, const void* data, bool enabled, bool answer_taken) {
        if (answer_taken) answers_.pop_front(), answering_ = false, ++answered_;
        if (address_taken) bursts_.push_back({address, length + 1}), begin_since_ = NEVER, ++begun_;
        if (beat_taken) {
            const auto* bytes = static_cast<const uint8_t*>(data);
            waiting_.push_back(enabled ? std::vector<uint8_t>(bytes, bytes + beat_bytes)
                                       : std::vector<uint8_t>());
            beat_since_ = NEVER, any_written_ = true, last_written_ = cycle, ++written_;
        }
        if (bursts_.empty() || waiting_.size() < bursts_.front().second) return;
        uint64_t at = bursts_.front().first - base;
        for (uint32_t beat = 0; beat < bursts_.front().second; ++beat, at += beat_bytes) {
            if (!waiting_.front().empty() && at + beat_bytes <= image.size())
                std::memcpy(&image[at], waiting_.front().data(), beat_bytes);
            waiting_.pop_front();
        }
        bursts_.pop_front();
        answers_.push_back(cycle + write_latency);
    }

private:
    struct Beat {
        uint64_t start, address;
        bool last;
    };

    bool silent() const { return beats_ >= silent_from; }
    bool mute() const { return written_ >= silent_writes; }
    static uint64_t stall(const std::vector<uint32_t>& trace, uint64_t number) {
        return trace.empty() ? 0 : trace[number % trace.size()];
    }

    std::deque<Beat> queue_;
    uint64_t offered_since_ = NEVER, last_ = 0, beats_ = 0, addresses_ = 0;
    bool shown_ = false, any_ = false;
    std::deque<std::pair<uint64_t, uint32_t>> bursts_;  // address, beats
    std::deque<std::vector<uint8_t>> waiting_;          // beats of bursts that are not whole
    std::deque<uint64_t> answers_;                      // when they are due
    uint64_t begin_since_ = NEVER, beat_since_ = NEVER, last_written_ = 0;
    uint64_t written_ = 0, begun_ = 0, answered_ = 0;
    bool any_written_ = false, answering_ = false;
};

#endif
