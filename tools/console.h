// What the subcommands print: tables, sizes, a progress line. Results go to stdout, everything about the work to stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/support/human.h"

namespace vkqat {

bool is_terminal(std::FILE* stream);

// Columns as wide as their longest cell, two spaces between them. A header that begins with '>' aligns its column to the right.
class Table {
public:
    explicit Table(std::vector<std::string> headers);
    void add(std::vector<std::string> cells);  // as many as there are headers
    void print(std::FILE* stream = stdout) const;

private:
    std::vector<std::string> headers_;
    std::vector<bool> right_;
    std::vector<std::vector<std::string>> rows_;
};

// One line on stderr that is written over and over and wiped at the end; nothing at all where stderr is no terminal.
class ProgressLine {
public:
    ProgressLine() : terminal_(is_terminal(stderr)) {}
    ~ProgressLine() { clear(); }
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;
    // At most ten times a second, `last` always. With the time left where it can be told.
    void show(std::string_view what, double done, double total);
    void clear();

private:
    using Clock = std::chrono::steady_clock;
    bool terminal_, shown_ = false;
    Clock::time_point start_ = Clock::now(), next_ = start_;
};

// Seconds since it was made.
class Stopwatch {
public:
    double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point start_ = Clock::now();
};

// Writes out what stdout holds back. Error if it cannot be written (a full disk).
void flush_stdout();
void print(std::string_view text);  // to stdout, at once

// A text from outside for stdout: where that is a terminal, control characters other than line feed and tab become escapes.
std::string displayable(std::string_view text);

}  // namespace vkqat
