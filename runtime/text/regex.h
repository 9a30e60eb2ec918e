// Regular expressions of tokenizers: PCRE2 with Unicode properties, given patterns that were written for Oniguruma.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace vkqat {

struct TextRange {
    size_t begin, end;  // bytes
};

class Regex {
public:
    // `pattern` as Hugging Face's tokenizers take it (Oniguruma, Ruby syntax). What PCRE2 reads in another way is translated
    // (\s, \S, \w, \W) or refused (\h, \b, nested classes, &&, ...). Error if it does not compile.
    explicit Regex(std::string_view pattern);
    ~Regex();
    Regex(Regex&&) noexcept;
    Regex& operator=(Regex&&) noexcept;

    // All matches from left to right, none overlapping, empty ones included. `text` must be valid UTF-8. Safe to call from
    // several threads. Error if the pattern backtracks without end (the work allowed grows with the text, so that a hostile
    // pattern cannot hang the program).
    std::vector<TextRange> find_all(std::string_view text) const;

private:
    struct Code;
    std::unique_ptr<Code> code_;
};

}  // namespace vkqat
