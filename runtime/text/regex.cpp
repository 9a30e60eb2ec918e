#include "runtime/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "runtime/support/error.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

constexpr size_t max_pattern_bytes = 16384;

// Oniguruma's pattern as PCRE2's. White space: PCRE2's \s also takes U+180E, Oniguruma's is the Unicode property White_Space.
// Word characters: PCRE2's \w is letters, numbers and _; Oniguruma's is Unicode's, and by an old table also the superscripts
// and fractions of Latin-1.
std::string translate(std::string_view pattern) {
    auto refuse = [&](std::string_view what) {
        fail("regular expression {}: {} means something else in PCRE2 than in Oniguruma and is not supported", pattern, what);
    };
    const std::string_view space = "\\t-\\r\\x{85}\\p{Z}",
                           word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
    std::string out;
    bool in_class = false;
    size_t class_start = 0;
    for (size_t i = 0; i < pattern.size(); ++i) {
        const char c = pattern[i];
        const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
        if (c == '\\') {
            ++i;
            bool braces = false;
            if (next == 's' || next == 'w') {
                std::string_view set = next == 's' ? space : word;
                out += in_class ? std::string(set) : "[" + std::string(set) + "]";
            } else if (next == 'S' || next == 'W') {
                if (in_class) refuse(std::string("\\") + next + " inside a class");
                out += "[^" + std::string(next == 'S' ? space : word) + "]";
            } else if (std::string_view("hHbBRXKGZzAyYkg").find(next) != std::string_view::npos && next != '\0') {
                refuse(std::string("\\") + next);
            } else {
                out += c;
                if (i < pattern.size()) out += next;
                while ((next == 'p' || next == 'P' || next == 'x') && i + 1 < pattern.size() &&
                       (pattern[i + 1] == '{' || braces)) {
                    out += pattern[++i];  // \p{L}, \x{85}
                    braces = pattern[i] != '}';
                }
            }
        } else if (in_class) {
            if (c == '[') refuse("a class inside a class");
            if (c == '&' && next == '&') refuse("&& inside a class");
            if (c == ']' && i > class_start) in_class = false;
            out += c;
        } else {
            if (c == '[') {
                in_class = true;
                class_start = next == '^' ? i + 2 : i + 1;  // a ']' there is an ordinary character
            }
            if (c == '}' && next == '+') refuse("}+");
            if (c == '(' && next == '*') refuse("(*");
            if (c == '(' && next == '?') {
                size_t end = pattern.find_first_of(":)=!<>", i);
                std::string_view flags = pattern.substr(i + 2, end == std::string_view::npos ? 0 : end - i - 2);
                if (flags.find_first_not_of("i-") != std::string_view::npos) refuse("(?" + std::string(flags));
            }
            out += c;
        }
    }
    return out;
}

template <auto Free>
struct Deleter {
    template <class T>
    void operator()(T* p) const {
        Free(p);
    }
};

}  // namespace

struct Regex::Code {
    std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>> code;
    std::string pattern;
};

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

Regex::Regex(std::string_view pattern) : code_(std::make_unique<Code>()) {
    if (pattern.size() > max_pattern_bytes)
        fail("regular expression of {} bytes is too long (at most {})", pattern.size(), max_pattern_bytes);
    code_->pattern = pattern;
    const std::string translated = translate(pattern);
    std::unique_ptr<pcre2_compile_context, Deleter<pcre2_compile_context_free>> context(pcre2_compile_context_create(nullptr));
    if (!context) fail("no memory for a regular expression");
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context.get(), 100);
    int error = 0;
    PCRE2_SIZE where = 0;
    // Ruby's ^ and $ are those of a line.
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    code_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options, &error, &where,
                                    context.get()));
    if (!code_->code) {
        char message[256] = "";
        pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
        fail("regular expression {}: {} (at {} of {})", pattern, message, where, translated);
    }
    pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE);  // where it is not available the interpreter is used
}

std::vector<TextRange> Regex::find_all(std::string_view text) const {
    std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>> data(
        pcre2_match_data_create_from_pattern(code_->code.get(), nullptr));
    std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>> context(pcre2_match_context_create(nullptr));
    std::unique_ptr<pcre2_jit_stack, Deleter<pcre2_jit_stack_free>> stack;
    if (!data || !context) fail("no memory for matching a regular expression");
    pcre2_set_heap_limit(context.get(), 256 * 1024);  // KiB

    // Most matches need few steps. One that needs more is tried again with a higher limit, and what the trials cost is taken
    // from a budget for the whole text.
    constexpr uint32_t first_limit = 20'000, highest_limit = 200'000'000;
    uint64_t budget = 100'000'000 + 200 * uint64_t(text.size());
    uint32_t limit = first_limit;
    pcre2_set_match_limit(context.get(), limit);

    std::vector<TextRange> found;
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    uint32_t flags = PCRE2_NO_UTF_CHECK;
    for (size_t position = 0; position <= text.size();) {
        int rc = pcre2_match(code_->code.get(), subject, text.size(), position, flags, data.get(), context.get());
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc == PCRE2_ERROR_MATCHLIMIT && limit < highest_limit && budget > limit * uint64_t(10)) {
            limit *= 10;
            budget -= limit;
            pcre2_set_match_limit(context.get(), limit);
            continue;
        }
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
            stack.reset(pcre2_jit_stack_create(256 * 1024, 64 * 1024 * 1024, nullptr));
            if (!stack) fail("no memory for matching a regular expression");
            pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
            continue;
        }
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !(flags & PCRE2_NO_JIT)) {
            flags |= PCRE2_NO_JIT;
            continue;
        }
        if (rc < 0) {
            char message[256] = "";
            pcre2_get_error_message(rc, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
            fail("regular expression {}: {} (at byte {} of a text of {} bytes)", code_->pattern, message, position, text.size());
        }
        if (limit != first_limit) pcre2_set_match_limit(context.get(), limit = first_limit);
        const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
        const TextRange match{range[0], range[1]};
        if (match.end < match.begin) fail("regular expression {}: a match that ends before it begins", code_->pattern);
        if (match.end > match.begin) {
            found.push_back(match);
            position = match.end;
        } else {  // an empty match counts unless it touches the end of the one before
            if (found.empty() || found.back().end != match.end) found.push_back(match);
            if (match.end >= text.size()) break;
            position = match.end + utf8_at(text, match.end).length;
        }
    }
    return found;
}

}  // namespace vkqat
