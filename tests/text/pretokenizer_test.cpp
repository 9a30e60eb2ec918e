#include "runtime/text/pretokenizer.h"

#include <gtest/gtest.h>

namespace vkqat {
namespace {

using Words = std::vector<std::string>;

Words words(PretokenizeStep step, std::string_view text, bool first = true) {
    std::vector<PretokenizeStep> steps;
    steps.push_back(std::move(step));
    std::deque<std::string> storage;
    Words out;
    for (std::string_view word : pretokenize(steps, text, first, storage)) out.emplace_back(word);
    return out;
}

SplitStep split(const char* pattern, bool remove = false, bool invert = false) { return {Regex(pattern), remove, invert}; }

// The expected words are those of Hugging Face's tokenizers 0.23.
TEST(Pretokenizer, CutsWordsAsLlama3) {
    EXPECT_EQ(words(SplitStep{Regex(llama3_pattern)}, "I'll go, 12345  miles\n\n \nto \xC3\x84pfel'S"),
              (Words{"I", "'ll", " go", ",", " ", "123", "45", " ", " miles", "\n\n \n", "to", " \xC3\x84pfel", "'S"}));
    // The long s and the Kelvin sign are letters that fold to s and k.
    EXPECT_EQ(words(SplitStep{Regex(llama3_pattern)}, "it'\xC5\xBF"), (Words{"it", "'\xC5\xBF"}));
}

TEST(Pretokenizer, WhiteSpaceAndWordCharactersAreOnigurumas) {
    // U+180E is none since Unicode 6.3, U+0085 and U+2003 are.
    EXPECT_EQ(words(split("\\s+", true),
                    "a\xE1\xA0\x8E"
                    "b\xC2\x85"
                    "c\xE2\x80\x83"
                    "d"),
              (Words{"a\xE1\xA0\x8E"
                     "b",
                     "c", "d"}));
    EXPECT_EQ(words(split("[\\s,]+", true), "a , b"), (Words{"a", "b"}));
    EXPECT_EQ(words(split("\\S+"), " ab "), (Words{" ", "ab", " "}));
    // A combining mark and the circled letter belong to words, a circled number does not, a superscript of Latin-1 does.
    EXPECT_EQ(words(split("\\w+", true, true), "e\xCC\x81-\xE2\x92\xB6-\xE2\x93\xBF-\xC2\xB2"),
              (Words{"e\xCC\x81", "\xE2\x92\xB6", "\xC2\xB2"}));
}

TEST(Pretokenizer, KeepsOrDropsMatches) {
    EXPECT_EQ(words(split("-"), "a-b"), (Words{"a", "-", "b"}));
    EXPECT_EQ(words(split("-", true), "-a--b"), (Words{"a", "b"}));
    EXPECT_EQ(words(split("[ab]", true, true), "-a--b"), (Words{"a", "b"}));
    EXPECT_EQ(words(split("x*"), "axxb"), (Words{"a", "xx", "b"}));
    EXPECT_EQ(words(split("^b"), "a\nb"), (Words{"a\n", "b"}));  // Ruby's ^ is that of a line
    EXPECT_EQ(words(split("a"), ""), Words{});
}

TEST(Pretokenizer, MetaspacePutsTheSymbolInFront) {
    const std::string s = "\xE2\x96\x81";
    EXPECT_EQ(words(MetaspaceStep{s}, "a  b"), (Words{s + "a", s, s + "b"}));
    EXPECT_EQ(words(MetaspaceStep{s}, " a"), (Words{s + "a"}));
    EXPECT_EQ(words(MetaspaceStep{s, MetaspaceStep::Prepend::never}, "ab c"), (Words{"ab", s + "c"}));
    EXPECT_EQ(words(MetaspaceStep{s, MetaspaceStep::Prepend::first}, "a", false), (Words{"a"}));
    EXPECT_EQ(words(MetaspaceStep{s, MetaspaceStep::Prepend::always, false}, "a b"), (Words{s + "a" + s + "b"}));
    EXPECT_EQ(words(PrefixSpaceStep{}, "a"), (Words{" a"}));
}

TEST(Normalizer, PrependsAndReplaces) {
    std::vector<NormalizeStep> steps;
    steps.push_back(PrependStep{"_"});
    steps.push_back(ReplaceStep{std::string(" "), "_"});
    steps.push_back(ReplaceStep{Regex("[0-9]+"), "#"});
    EXPECT_EQ(normalize(steps, "a 12 b"), "_a_#_b");
    EXPECT_EQ(normalize(steps, ""), "");
    std::vector<NormalizeStep> growth;
    for (int i = 0; i < 4; ++i) growth.push_back(ReplaceStep{std::string("a"), std::string(2000, 'a')});
    EXPECT_ANY_THROW(normalize(growth, "a"));  // 16 TB
}

}  // namespace
}  // namespace vkqat
