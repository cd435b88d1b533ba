// Runs images through the Verilator model of an accelerator, by its AXI ports alone.
//
//   simulator --images FILE --out FOLDER [--constants FILE] [--observe N] [--stall SEED]
//             [--max-cycles N] [--first-limit N] [--in-a-row 1] [--packets N] [--trace FILE]
//             [+bivit_folder=FOLDER]
//             [--external FILE --latency N --interval N --write-latency N [--beat-stalls FILE]
//              [--address-stalls FILE] [--silent-from N] [--wrong-beat N]
//              [--short-burst N] [--long-burst N] [--silent-writes N] [--wrong-write N]]
//
// --images: for each image the number of beats (u32), then the beats. --constants: for each memory
// its number and its beats likewise. FOLDER receives results.bin (a record of u32 for each image,
// see report()), and for the first N images <memory>.bin (write events, see note()) and units.bin
// (image, cycle, unit, kind, tag; kind 0 is a pop, 1 a done). Cycles count from the first busy one.
// --in-a-row runs all images as the frames of one start: an image's cycles are then those from the
// start to the end of its frame; --packets is how many packets of output a frame has.
// --first-limit resets the machine so many cycles after the start of the first image; --external
// and what follows describe the memory (external_memory.h), errors are those of the first image.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "external_memory.h"
#include "Vbivit.h"
#include "Vbivit___024root.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Waves = VerilatedFstC;
#elif VM_TRACE
#include "verilated_vcd_c.h"
using Waves = VerilatedVcdC;
#endif

using Words = std::vector<uint32_t>;

namespace {

enum Register : uint8_t { CTRL = 0x08, STATUS = 0x0C, ERROR = 0x10, CYCLES = 0x14,
                          LOAD_SELECT = 0x18, MEMORY_BASE = 0x1C, COUNTERS = 0x20, FRAMES = 0x80 };
enum Outcome : uint32_t { DONE = 0, FAILED = 1, TIMEOUT = 2 };
constexpr int COUNTERS_PER_UNIT = 3, ACCESS_LIMIT = 10000, QUIET_CYCLES = 8;
constexpr uint32_t EXTERNAL_BASE = 0x4567'8000;

[[noreturn]] void fail(const std::string& message) {
    std::fprintf(stderr, "%s\n", message.c_str());
    std::exit(3);
}

Words read_file(const std::string& path) {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) fail("cannot read " + path);
    Words words;
    uint32_t buffer[4096];
    for (size_t count; (count = std::fread(buffer, 4, 4096, file)) > 0;)
        words.insert(words.end(), buffer, buffer + count);
    std::fclose(file);
    return words;
}

class Output {
public:
    void open(const std::string& path) {
        if (!(file_ = std::fopen(path.c_str(), "wb"))) fail("cannot write " + path);
    }
    void write(const Words& words) {
        if (std::fwrite(words.data(), 4, words.size(), file_) != words.size())
            fail("cannot write the results: no space left on device");
    }
    void close() {
        if (file_ && std::fclose(file_)) fail("cannot write the results: no space left on device");
        file_ = nullptr;
    }

private:
    std::FILE* file_ = nullptr;
};

// The 32-bit words of a signal of any width.
template <typename T> void append(Words& words, const T& value) {
    words.push_back(static_cast<uint32_t>(value));
    if (sizeof(T) > 4) words.push_back(static_cast<uint32_t>(static_cast<uint64_t>(value) >> 32));
}
template <std::size_t N> void append(Words& words, const VlWide<N>& value) {
    words.insert(words.end(), value.data(), value.data() + N);
}
template <typename T> bool any(const T& value) { return value != 0; }
template <std::size_t N> bool any(const VlWide<N>& value) {
    for (std::size_t i = 0; i < N; ++i)
        if (value.data()[i]) return true;
    return false;
}

class Bench {
public:
    Bench(int argc, char** argv, std::map<std::string, std::string> options)
        : options_(std::move(options)) {
        context_.commandArgs(argc, argv);
        seed_ = number("--stall", 0);
        if (seed_) {  // contents of memories that nobody wrote must not matter
            context_.randReset(2);
            context_.randSeed(static_cast<int>(seed_ & 0x7fffffff) + 1);
        }
        context_.traceEverOn(options_.count("--trace") > 0);
        random_ = seed_ * 0x9E3779B97F4A7C15ull + 1;
        top_ = new Vbivit{&context_};
        root_ = top_->rootp;
    }

    void run() {
        const std::string out = options_.at("--out") + "/";
        results_.open(out + "results.bin");
        units_.open(out + "units.bin");
        for (const char* name : {"hmem", "bmem", "resid", "pmem", "xmem", "vmem", "kmem"})
            memories_[name].open(out + name + ".bin");
        start_waves();
        reset();
        load_constants();
        load_external();
        const Words images = read_file(options_.at("--images"));
        observe_ = number("--observe", 0);
        if (options_.count("--in-a-row"))
            run_frames(images);
        else
            for (size_t next = 0; next < images.size(); next += images[next] + 1, ++image_) {
                observing_ = image_ < observe_;
                run_image(&images[next + 1], images[next]);
                if (image_ == 0) stop_waves();
            }
        stop_waves();
        top_->final();
        results_.close();
        units_.close();
        for (auto& memory : memories_) memory.second.close();
        std::printf("cycles %llu\n", static_cast<unsigned long long>(cycle_));
    }

private:
    uint64_t number(const char* name, uint64_t otherwise) const {
        const auto found = options_.find(name);
        return found == options_.end() ? otherwise : std::stoull(found->second);
    }

    // Whether a side of a stream holds it up now: with a seed, half of the time in gaps of up to
    // 63 cycles.
    bool stalled(uint32_t& gap) {
        if (!seed_) return false;
        if (gap) return --gap;
        random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
        gap = random_ >> 40 & 1 ? random_ >> 48 & 63 : 0;
        return gap;
    }

    // ---- one clock cycle: settle, look, clock edge ----------------------------------------

    void settle() {
        if (!offered_ && next_beat_ < beat_count_) offered_ = !stalled(input_gap_);
        top_->s_axis_tvalid = offered_;
        top_->s_axis_tdata = offered_ ? beats_[next_beat_] : 0;
        top_->s_axis_tlast = offered_
            && std::binary_search(ends_.begin(), ends_.end(), next_beat_ + 1);
        top_->m_axis_tready = !stalled(output_gap_);
        show_memory();
        top_->clk = 0;
        evaluate();
        busy_ = root_->accelerator__DOT__registers___05Fbusy;
        if (busy_ && !was_busy_) first_busy_ = cycle_;
        was_busy_ = was_busy_ || busy_;
        if (busy_ && frame_count_ > 1) follow_frames();
        if (observing_ && was_busy_) look();
    }

    void edge() {
        const bool taken = top_->s_axis_tvalid && top_->s_axis_tready;
        if (top_->m_axis_tvalid && top_->m_axis_tready) {
            logits_.push_back(top_->m_axis_tdata);
            frames_ += top_->m_axis_tlast;
            frame_open_ = !top_->m_axis_tlast;
            if (top_->m_axis_tlast) outputs_.push_back(logits_.size());
        }
        take_memory();
        quiet_ = top_->m_axis_tvalid ? 0 : quiet_ + 1;
        top_->clk = 1;
        evaluate();
        if (taken) ++next_beat_, offered_ = false;
        ++cycle_;
    }

    void step() { settle(), edge(); }

    void evaluate() {
        top_->eval();
#if VM_TRACE
        if (waves_) waves_->dump(2 * cycle_ + top_->clk);
#endif
    }

    void look() {
        note("hmem", root_->accelerator__DOT__hmem_we, root_->accelerator__DOT__hmem_addr,
             root_->accelerator__DOT__hmem_data, root_->accelerator__DOT__obs_post_tag);
        note("bmem", root_->accelerator__DOT__bmem_we, root_->accelerator__DOT__bmem_addr,
             root_->accelerator__DOT__bmem_data, root_->accelerator__DOT__obs_post_tag);
        note("resid", root_->accelerator__DOT__resid_we, root_->accelerator__DOT__resid_addr,
             root_->accelerator__DOT__resid_data, root_->accelerator__DOT__obs_post_tag);
        note("pmem", root_->accelerator__DOT__pmem_we, root_->accelerator__DOT__pmem_addr,
             root_->accelerator__DOT__pmem_data, root_->accelerator__DOT__obs_softmax_tag);
        note("xmem", root_->accelerator__DOT__xmem_we, root_->accelerator__DOT__xmem_addr,
             root_->accelerator__DOT__xmem_data, root_->accelerator__DOT__obs_vec_tag);
        note("vmem", root_->accelerator__DOT__vmem_we, root_->accelerator__DOT__vmem_addr,
             root_->accelerator__DOT__vmem_data, root_->accelerator__DOT__obs_vec_tag);
        note("kmem", root_->accelerator__DOT__kmem_we, root_->accelerator__DOT__kmem_addr,
             root_->accelerator__DOT__kmem_data, root_->accelerator__DOT__obs_vec_tag);
        unit(0, root_->accelerator__DOT__obs_load_pop, root_->accelerator__DOT__obs_load_pop_tag,
             root_->accelerator__DOT__obs_load_done);
        unit(1, root_->accelerator__DOT__obs_mm_pop, root_->accelerator__DOT__obs_mm_pop_tag,
             root_->accelerator__DOT__obs_mm_done);
        unit(2, root_->accelerator__DOT__obs_softmax_pop,
             root_->accelerator__DOT__obs_softmax_pop_tag,
             root_->accelerator__DOT__obs_softmax_done);
        unit(3, root_->accelerator__DOT__obs_vec_pop, root_->accelerator__DOT__obs_vec_pop_tag,
             root_->accelerator__DOT__obs_vec_done);
        look_at_fetch();
    }

    // A write event: image, cycle, tag, address, the mask's words, the data's words.
    template <typename Word>
    void note(const char* memory, const Word& mask, uint32_t address, const Word& data,
              uint32_t tag) {
        if (!any(mask)) return;
        Words words{image_, relative_cycle(), tag, address};
        append(words, mask);
        append(words, data);
        memories_[memory].write(words);
    }

    void unit(uint32_t number, bool pop, uint32_t tag, bool done) {
        if (done) {
            if (running_[number].empty()) fail("a unit completes what it never began");
            const auto begun = running_[number].front();
            units_.write({begun.first, relative_cycle(), number, 1, begun.second});
            running_[number].pop_front();
        }
        if (!pop) return;
        running_[number].push_back({image_, tag});
        units_.write({image_, relative_cycle(), number, 0, tag});
    }

    // ---- external memory ------------------------------------------------------------------

#if BIVIT_MEMORY
    void load_external() {
        if (!options_.count("--external")) fail("--external is needed");
        const Words image = read_file(options_.at("--external"));
        external_.beat_bytes = sizeof top_->m_axi_rdata;
        external_.image.resize(4 * image.size());
        std::memcpy(external_.image.data(), image.data(), external_.image.size());
        external_.base = EXTERNAL_BASE;
        external_.latency = number("--latency", 1), external_.interval = number("--interval", 1);
        external_.write_latency = number("--write-latency", 1);
        if (options_.count("--beat-stalls"))
            external_.beat_stalls = read_file(options_.at("--beat-stalls"));
        if (options_.count("--address-stalls"))
            external_.address_stalls = read_file(options_.at("--address-stalls"));
        write_register(MEMORY_BASE, EXTERNAL_BASE);
    }

    void start_memory() {
        external_.start();
        external_.silent_from = number_of_first("--silent-from");
        external_.wrong = number_of_first("--wrong-beat");
        external_.short_burst = number_of_first("--short-burst");
        external_.long_burst = number_of_first("--long-burst");
        external_.silent_writes = number_of_first("--silent-writes");
        external_.wrong_write = number_of_first("--wrong-write");
    }

    void show_memory() {
        top_->m_axi_awready = external_.takes_address(cycle_, top_->m_axi_awvalid,
                                                      stalled(begin_gap_));
        top_->m_axi_wready = external_.takes_beat(cycle_, top_->m_axi_wvalid, stalled(write_gap_));
        top_->m_axi_bvalid = external_.answers(cycle_, stalled(answer_gap_));
        top_->m_axi_bresp = 2 * external_.wrong_answer();
        top_->m_axi_arready = external_.ready(cycle_, top_->m_axi_arvalid, stalled(address_gap_));
        top_->m_axi_rvalid = external_.offers(cycle_, stalled(beat_gap_));
        if (!top_->m_axi_rvalid) return;
        external_.data(&top_->m_axi_rdata);
        top_->m_axi_rlast = external_.last();
        top_->m_axi_rresp = 2 * external_.error();
    }

    void take_memory() {
        external_.edge(cycle_, top_->m_axi_arvalid && top_->m_axi_arready, top_->m_axi_araddr,
                       top_->m_axi_arlen, top_->m_axi_rvalid && top_->m_axi_rready);
        external_.write_edge(cycle_, top_->m_axi_awvalid && top_->m_axi_awready,
                             top_->m_axi_awaddr, top_->m_axi_awlen,
                             top_->m_axi_wvalid && top_->m_axi_wready, &top_->m_axi_wdata,
                             top_->m_axi_wstrb, top_->m_axi_bvalid && top_->m_axi_bready);
    }

    void look_at_fetch() {
        unit(4, root_->accelerator__DOT__obs_fetch_pop, root_->accelerator__DOT__obs_fetch_pop_tag,
             root_->accelerator__DOT__obs_fetch_done);
    }

    ExternalMemory external_;
    uint32_t address_gap_ = 0, beat_gap_ = 0, begin_gap_ = 0, write_gap_ = 0, answer_gap_ = 0;
#else
    void load_external() {}
    void start_memory() {}
    void show_memory() {}
    void take_memory() {}
    void look_at_fetch() {}
#endif

    uint64_t number_of_first(const char* name) const {
        return image_ == 0 ? number(name, ExternalMemory::NEVER) : ExternalMemory::NEVER;
    }

    uint32_t relative_cycle() const { return static_cast<uint32_t>(cycle_ - first_busy_); }

    // ---- registers ------------------------------------------------------------------------

    void write_register(uint8_t address, uint32_t value) {
        bool address_open = true, data_open = true, answered = false;
        for (int tries = 0; address_open || data_open || !answered; ++tries) {
            if (tries == ACCESS_LIMIT) fail("the accelerator does not answer a register write");
            top_->s_axil_awvalid = address_open, top_->s_axil_awaddr = address;
            top_->s_axil_wvalid = data_open, top_->s_axil_wdata = value, top_->s_axil_wstrb = 15;
            top_->s_axil_bready = 1;
            settle();
            address_open = address_open && !top_->s_axil_awready;
            data_open = data_open && !top_->s_axil_wready;
            answered = answered || top_->s_axil_bvalid;
            edge();
        }
        top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_bready = 0;
    }

    uint32_t read_register(uint8_t address) {
        bool open = true, answered = false;
        uint32_t value = 0;
        for (int tries = 0; open || !answered; ++tries) {
            if (tries == ACCESS_LIMIT) fail("the accelerator does not answer a register read");
            top_->s_axil_arvalid = open, top_->s_axil_araddr = address, top_->s_axil_rready = 1;
            settle();
            open = open && !top_->s_axil_arready;
            if (top_->s_axil_rvalid) answered = true, value = top_->s_axil_rdata;
            edge();
        }
        top_->s_axil_arvalid = top_->s_axil_rready = 0;
        return value;
    }

    // ---- what the host does ---------------------------------------------------------------

    void reset() {
        top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_bready = 0;
        top_->s_axil_arvalid = top_->s_axil_rready = 0;
        top_->rst = 1;
        for (int i = 0; i < 4; ++i) step();
        top_->rst = 0;
        step();
    }

    void send(const uint32_t* beats, size_t count) {
        beats_ = beats, beat_count_ = count, next_beat_ = 0, offered_ = false;
        ends_.assign(1, count);
    }

    void load_constants() {
        if (!options_.count("--constants")) return;
        const Words constants = read_file(options_.at("--constants"));
        for (size_t next = 0; next < constants.size(); next += constants[next + 1] + 2) {
            write_register(LOAD_SELECT, constants[next] | constants[next + 1] << LOAD_INDEX_BITS);
            send(&constants[next + 2], constants[next + 1]);
            const uint64_t limit = cycle_ + 64ull * constants[next + 1] + ACCESS_LIMIT;
            while (next_beat_ < beat_count_) {
                if (cycle_ > limit) fail("the accelerator does not take its constants");
                step();
            }
            while (read_register(LOAD_SELECT) >> 31)
                if (cycle_ > limit) fail("the accelerator does not finish loading constants");
        }
    }

    void run_image(const uint32_t* beats, size_t count) {
        send(beats, count);
        report(run_program());
    }

    // All images of a file as the frames of one start.
    void run_frames(const Words& images) {
        Words beats;
        std::vector<size_t> ends;
        for (size_t next = 0; next < images.size(); next += images[next] + 1) {
            beats.insert(beats.end(), &images[next + 1], &images[next + 1] + images[next]);
            ends.push_back(beats.size());
        }
        send(beats.data(), beats.size());
        ends_ = ends;
        frame_count_ = ends.size();
        observing_ = observe_ > 0;
        write_register(FRAMES, frame_count_);
        const bool timeout = run_program();
        const uint32_t last = image_, cycles = read_register(CYCLES);
        for (image_ = 0; image_ < frame_count_; ++image_) {
            const size_t first = image_ ? ends[image_ - 1] : 0;
            const size_t taken = std::min(std::max(next_beat_, first), ends[image_]) - first;
            const size_t own = number("--packets", 1), before = own * image_;
            const size_t whole = std::min(std::max(outputs_.size(), before) - before, own);
            const size_t from = before && whole ? outputs_[before - 1] : 0;
            const size_t to = whole ? outputs_[before + whole - 1] : from;
            record(timeout && image_ >= last ? TIMEOUT : outcome(),
                   image_ < frame_cycles_.size() ? frame_cycles_[image_] : cycles, taken,
                   whole, false,
                   Words(logits_.begin() + from, logits_.begin() + to));
        }
        finish();
    }

    // The cycle in which each frame but the last one is over.
    void follow_frames() {
        const uint32_t frame = frame_count_ - 1 - root_->accelerator__DOT__obs_frames_left;
        if (frame == image_ || frame >= frame_count_) return;
        frame_cycles_.push_back(relative_cycle());
        image_ = frame;
        observing_ = image_ < observe_;
    }

    // Start, and wait for the end; whether it did not come.
    bool run_program() {
        logits_.clear(), outputs_.clear();
        frames_ = 0, frame_open_ = false, was_busy_ = false;
        for (auto& tags : running_) tags.clear();
        start_memory();
        const uint64_t limit = cycle_ + std::min(number("--max-cycles", 1ull << 32),
                                                 number_of_first("--first-limit"));
        write_register(CTRL, 1);
        while ((!was_busy_ || busy_) && cycle_ < limit) step();
        const bool timeout = !was_busy_ || busy_;
        for (quiet_ = 0; quiet_ < QUIET_CYCLES && cycle_ < limit + ACCESS_LIMIT;) step();
        observing_ = false;
        return timeout;
    }

    // outcome, ERROR, CYCLES, beats taken, complete frames out, open frame, counters of UNITS, count of
    // logits, logits
    void record(Outcome outcome, uint32_t cycles, size_t taken, uint32_t frames, bool open,
                const Words& logits) {
        Words words{outcome, read_register(ERROR), cycles, static_cast<uint32_t>(taken), frames,
                    open};
        for (int i = 0; i < UNITS * COUNTERS_PER_UNIT; ++i)
            words.push_back(read_register(COUNTERS + 4 * i));
        words.push_back(static_cast<uint32_t>(logits.size()));
        words.insert(words.end(), logits.begin(), logits.end());
        results_.write(words);
        std::printf("image %u\n", image_);
        std::fflush(stdout);
    }

    Outcome outcome() { return (read_register(STATUS) & 7) == 2 ? DONE : FAILED; }

    void report(bool timeout) {
        record(timeout ? TIMEOUT : outcome(), read_register(CYCLES), next_beat_, frames_,
               frame_open_, logits_);
        finish();
    }

    // Make the machine ready for the next start.
    void finish() {
        const bool whole = outcome() == DONE && next_beat_ == beat_count_;
        send(nullptr, 0);
        if (!whole) write_register(CTRL, 2);
    }

    void start_waves() {
#if VM_TRACE
        if (!options_.count("--trace")) return;
        waves_ = new Waves;
        top_->trace(waves_, 99);
        waves_->open(options_.at("--trace").c_str());
        if (!waves_->isOpen()) fail("cannot write " + options_.at("--trace"));
#endif
    }

    void stop_waves() {
#if VM_TRACE
        if (waves_) waves_->close(), delete waves_;
        waves_ = nullptr;
#endif
    }

    std::map<std::string, std::string> options_;
    VerilatedContext context_;
    Vbivit* top_;
    Vbivit___024root* root_;
#if VM_TRACE
    Waves* waves_ = nullptr;
#endif
    uint64_t cycle_ = 0, first_busy_ = 0, seed_ = 0, random_ = 0;
    uint32_t image_ = 0, frames_ = 0, quiet_ = 0, input_gap_ = 0, output_gap_ = 0;
    bool busy_ = false, was_busy_ = false, observing_ = false, offered_ = false;
    bool frame_open_ = false;
    const uint32_t* beats_ = nullptr;
    size_t beat_count_ = 0, next_beat_ = 0;
    std::vector<size_t> ends_, outputs_;  // beats before each tlast, of the input and the output
    uint64_t observe_ = 0;
    size_t frame_count_ = 1;
    Words logits_, frame_cycles_;
    std::deque<std::pair<uint32_t, uint32_t>> running_[UNITS];  // image and tag
    Output results_, units_;
    std::map<std::string, Output> memories_;
};

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, std::string> options;
    for (int i = 1; i < argc; ++i)
        if (!std::strncmp(argv[i], "--", 2) && i + 1 < argc) options[argv[i]] = argv[i + 1], ++i;
    if (!options.count("--images") || !options.count("--out")) fail("--images and --out are needed");
    Bench(argc, argv, options).run();
    return 0;
}
