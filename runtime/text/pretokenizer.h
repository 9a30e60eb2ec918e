// How tokenizer.json cuts a text into words before byte-pair encoding, and how it changes it before that.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/text/regex.h"

namespace vkqat {

// How Llama 3 cuts text into words.
inline constexpr std::string_view llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// How GPT-2 does.
inline constexpr std::string_view gpt2_pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Splits at what `regex` matches. Isolated keeps the matches as words of their own, Removed drops them.
struct SplitStep {
    Regex regex;
    bool remove = false;
    bool invert = false;  // the matches are the words, the rest is what separates
};
// A space in front of every part that has none.
struct PrefixSpaceStep {};
// Spaces become `replacement`, one is put in front, and with `split` a word begins at each.
struct MetaspaceStep {
    std::string replacement;
    enum class Prepend { always, first, never } prepend = Prepend::always;
    bool split = true;
};
using PretokenizeStep = std::variant<SplitStep, PrefixSpaceStep, MetaspaceStep>;

// The words of a part of a text. Words are views of `text` or of `storage`. `first`: the part is the beginning of the text.
std::vector<std::string_view> pretokenize(std::span<const PretokenizeStep> steps, std::string_view text, bool first,
                                          std::deque<std::string>& storage);

struct PrependStep {
    std::string text;
};
struct ReplaceStep {
    std::variant<std::string, Regex> pattern;
    std::string replacement;
};
using NormalizeStep = std::variant<PrependStep, ReplaceStep>;
// Error where the text grows more than 64-fold (and 64 KiB): a small file must not ask for much memory.
std::string normalize(std::span<const NormalizeStep> steps, std::string_view text);

std::string replace_all(std::string_view text, std::string_view what, std::string_view by, size_t limit = size_t(1) << 32);

}  // namespace vkqat
