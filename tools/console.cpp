#include "tools/console.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

// Columns of a terminal that a UTF-8 text takes, near enough for names: one for each character.
size_t width(std::string_view text) {
    return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; }));
}

}  // namespace

bool is_terminal(std::FILE* stream) { return ::isatty(::fileno(stream)) == 1; }

Table::Table(std::vector<std::string> headers) : headers_(std::move(headers)) {
    for (std::string& header : headers_) {
        right_.push_back(header.starts_with('>'));
        if (right_.back()) header.erase(0, 1);
    }
}

void Table::add(std::vector<std::string> cells) {
    if (cells.size() != headers_.size()) fail("a table of {} columns got a row of {} cells", headers_.size(), cells.size());
    rows_.push_back(std::move(cells));
}

void Table::print(std::FILE* stream) const {
    std::vector<size_t> widths;
    for (size_t column = 0; column < headers_.size(); column++) {
        widths.push_back(width(headers_[column]));
        for (auto& row : rows_) widths[column] = std::max(widths[column], width(row[column]));
    }
    auto print_row = [&](const std::vector<std::string>& cells) {
        std::string line;
        for (size_t column = 0; column < cells.size(); column++) {
            std::string padding(widths[column] - width(cells[column]), ' ');
            if (column) line += "  ";
            line += right_[column] ? padding + cells[column] : cells[column] + padding;
        }
        line.erase(line.find_last_not_of(' ') + 1);
        std::fprintf(stream, "%s\n", line.c_str());
    };
    print_row(headers_);
    for (auto& row : rows_) print_row(row);
}

void ProgressLine::show(std::string_view what, double done, double total) {
    Clock::time_point now = Clock::now();
    if (!terminal_ || now < next_) return;
    next_ = now + std::chrono::milliseconds(100);
    double passed = std::chrono::duration<double>(now - start_).count(), share = total > 0 ? done / total : 0;
    std::string line = fmt::format("{}: {:.0f} %", what, 100 * share);
    if (passed > 2 && share > 0.01) line += fmt::format(", {} left", human_duration(passed / share * (1 - share)));
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    shown_ = true;
}

void ProgressLine::clear() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
    shown_ = false;
}

void flush_stdout() {
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) fail("cannot write the output: {}", std::strerror(errno));
}

void print(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    flush_stdout();
}

std::string displayable(std::string_view text) {
    if (!is_terminal(stdout)) return std::string(text);
    std::string result;
    for (char c : text) {
        uint8_t byte = uint8_t(c);
        if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f)
            result += fmt::format("\\x{:02x}", byte);
        else
            result += c;
    }
    return result;
}

}  // namespace vkqat
