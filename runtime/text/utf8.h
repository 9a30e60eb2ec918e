// UTF-8: reading untrusted bytes, and showing a stream of tokens without cutting characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vkqat {

// What stands at a position: a code point, or an ill-formed sequence of `length` bytes (the longest one that could still have
// become a character, as Unicode 3.9 "maximal subpart" has it; Python's errors="replace" and Rust's from_utf8_lossy cut alike).
struct Utf8Char {
    char32_t code;    // U+FFFD where ill-formed
    unsigned length;  // bytes taken, at least 1
    bool valid;
    bool cut;  // ill-formed only because the text ends here
};
Utf8Char utf8_at(std::string_view text, size_t position);  // position < text.size()

bool utf8_valid(std::string_view text);
std::string utf8_lossy(std::string_view text);  // each ill-formed sequence replaced by U+FFFD
void utf8_append(std::string& text, char32_t code);

// Bytes of tokens in, whole characters out: an incomplete sequence at the end is held back until the next push().
class Utf8Stream {
public:
    std::string push(std::string_view bytes);  // ill-formed sequences come out as U+FFFD
    std::string finish();                      // what is left: empty or one U+FFFD

private:
    std::string held_;
};

}  // namespace vkqat
