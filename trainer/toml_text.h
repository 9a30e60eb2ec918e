// TOML from untrusted files. A heavy header: for .cpp files only.
#pragma once

#include <string_view>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"

// toml++ asserts its parser's preconditions, and some malformed text violates them ("[&": marzer/tomlplusplus issue 294). Here
// that is an Error in every kind of build.
#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_ASSERT(condition) ((condition) ? void() : ::vkqat::fail("malformed TOML"))
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 16  // no value of ours is nested deeper than an array
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace vkqat {

inline constexpr size_t max_toml_bytes = size_t(256) << 10;

// The parser makes nested tables of dotted keys (a.b.c = 1) without a limit, and destroys them recursively.
inline bool has_too_many_dots(std::string_view text) {
    size_t dots = 0;
    for (char c : text) {
        dots = c == '\n' ? 0 : dots + (c == '.');
        if (dots > 200) return true;
    }
    return false;
}

// Error, beginning with `where`, if it is no TOML.
inline toml::table parse_toml(std::string_view text, std::string_view where) {
    if (text.size() > max_toml_bytes) fail("{}: {} bytes are too many for a configuration", where, text.size());
    if (has_too_many_dots(text)) fail("{}: a line with more than 200 dots is no configuration", where);
    try {
        return in_context(where, [&] { return toml::parse(text); });
    } catch (const toml::parse_error& e) {
        fail("{}:{}:{}: {}", where, e.source().begin.line, e.source().begin.column, printable(e.description(), 300));
    }
}

}  // namespace vkqat
