// External memory behind the AXI4 read port, as docs/memory.md states it.
//
// A cycle is: ready() and offers() say what the memory shows, then edge() what was handed over.

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

    uint64_t latency = 1, interval = 1;
    std::vector<uint32_t> beat_stalls, address_stalls;  // trace, from the start again at its end
    uint64_t silent_from = NEVER, wrong = NEVER;  // beats of the present frame
    uint64_t base = 0;                            // byte address of the image
    size_t beat_bytes = 4;
    std::vector<uint8_t> image;

    // A new frame: the counts of beats and addresses begin again.
    void start() { beats_ = addresses_ = 0; }

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
        for (uint32_t beat = 0; beat <= length; ++beat)
            queue_.push_back({beat ? 0 : cycle + latency, address + beat * beat_bytes,
                              beat == length});
        offered_since_ = NEVER, ++addresses_;
    }

private:
    struct Beat {
        uint64_t start, address;
        bool last;
    };

    bool silent() const { return beats_ >= silent_from; }
    static uint64_t stall(const std::vector<uint32_t>& trace, uint64_t number) {
        return trace.empty() ? 0 : trace[number % trace.size()];
    }

    std::deque<Beat> queue_;
    uint64_t offered_since_ = NEVER, last_ = 0, beats_ = 0, addresses_ = 0;
    bool shown_ = false, any_ = false;
};

#endif
