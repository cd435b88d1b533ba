// Runs the Verilator model of a board top behind a terminal: bytes that come from the terminal go to
// the pin uart_rx bit by bit, bytes that the board sends on uart_tx go to the terminal.
//
//   simulator --terminal DESCRIPTOR --bit CYCLES [+bivit_folder=FOLDER]
//
// Ends when the terminal is closed. While the line is quiet the board gets some cycles a millisecond.

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <string>

#include "Vbivit.h"
#include "verilated.h"

namespace {

constexpr int QUIET_CYCLES = 1 << 14, LOOK_CYCLES = 128, WAIT_MILLISECONDS = 1;
constexpr int FRAME_BITS = 10;  // start, 8 data, stop

class Board {
public:
    Board(int argc, char** argv, int terminal, int bit_cycles)
        : terminal_(terminal), bit_cycles_(bit_cycles) {
        context_.commandArgs(argc, argv);
        top_ = new Vbivit{&context_};
        top_->uart_rx = 1;
    }

    void run() {
        while (open_) {
            look();
            for (int cycle = 0; cycle < LOOK_CYCLES; ++cycle) step();
        }
        top_->final();
    }

private:
    // New bytes of the terminal; waits a little for them when the line has long been quiet.
    void look() {
        pollfd state{terminal_, POLLIN, 0};
        if (poll(&state, 1, quiet_ > QUIET_CYCLES ? WAIT_MILLISECONDS : 0) <= 0) return;
        uint8_t buffer[512];
        const ssize_t count = read(terminal_, buffer, sizeof buffer);
        if (count <= 0) {
            open_ = count < 0 && errno == EINTR;
            return;
        }
        to_board_.insert(to_board_.end(), buffer, buffer + count);
        quiet_ = 0;
    }

    void step() {
        send();
        top_->clk = 0;
        top_->eval();
        top_->clk = 1;
        top_->eval();
        receive();
        ++quiet_;
    }

    void send() {
        if (send_left_ == 0 && !to_board_.empty()) {
            send_bits_ = 1u << 9 | uint32_t{to_board_.front()} << 1;
            to_board_.pop_front();
            send_left_ = FRAME_BITS * bit_cycles_;
        }
        if (send_left_ == 0) {
            top_->uart_rx = 1;
            return;
        }
        top_->uart_rx = send_bits_ >> (FRAME_BITS - 1 - (send_left_ - 1) / bit_cycles_) & 1;
        --send_left_;
        quiet_ = 0;
    }

    void receive() {
        if (receive_left_ == 0) {
            if (!top_->uart_tx) receive_left_ = FRAME_BITS * bit_cycles_ - 1, received_ = 0;
            return;
        }
        quiet_ = 0;
        const int at = FRAME_BITS * bit_cycles_ - receive_left_;
        if (at % bit_cycles_ == bit_cycles_ / 2) received_ |= top_->uart_tx << at / bit_cycles_;
        if (at == (FRAME_BITS - 1) * bit_cycles_ + bit_cycles_ / 2) {
            receive_left_ = 0;
            const uint8_t byte = received_ >> 1;
            if (received_ >> 9 && write(terminal_, &byte, 1) != 1) open_ = false;
            return;
        }
        --receive_left_;
    }

    VerilatedContext context_;
    Vbivit* top_;
    const int terminal_, bit_cycles_;
    bool open_ = true;
    int quiet_ = 0, send_left_ = 0, receive_left_ = 0;
    uint32_t send_bits_ = 0, received_ = 0;
    std::deque<uint8_t> to_board_;
};

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, int> options;
    for (int i = 1; i + 1 < argc; ++i)
        if (!std::strncmp(argv[i], "--", 2)) options[argv[i]] = std::atoi(argv[i + 1]), ++i;
    if (!options.count("--terminal") || options["--bit"] < 1) {
        std::fprintf(stderr, "--terminal and --bit are needed\n");
        return 3;
    }
    Board(argc, argv, options["--terminal"], options["--bit"]).run();
    return 0;
}
