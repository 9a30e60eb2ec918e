// Right-to-left scripts. The expected strings stand in visual order, from left to right, as code points: an editor would turn
// them.
#include "app/core/bidi.h"

#include <gtest/gtest.h>

namespace vkqat {
namespace {

TEST(Bidi, KnowsWhereThereIsSomethingToDo) {
    for (const char* text : {"", "plain", "größer, мир, 世界, 😀", "\xd6\x80 Armenian", "\xe0\xa4\x95 Devanagari"})
        EXPECT_FALSE(has_right_to_left(text)) << text;
    for (const char* text : {"a \u05d0", "\u0627", "\u07c0", "\u08a0", "\ufb1d", "\ufefb", "\U0001e900"})
        EXPECT_TRUE(has_right_to_left(text)) << text;
}

TEST(Bidi, HebrewRunsFromRightToLeftAndNumbersInItDoNot) {
    // alef bet gimel, a space, 12: the paragraph begins at the right, so the number stands at the left.
    EXPECT_EQ(in_visual_order("\u05d0\u05d1\u05d2 12"), "12 \u05d2\u05d1\u05d0");
    EXPECT_TRUE(read_bidi("\u05d0\u05d1\u05d2 12").right_to_left);
    // In an English sentence the words stay where they are, and only the Hebrew turns.
    EXPECT_EQ(in_visual_order("say \u05d0\u05d1 now"), "say \u05d1\u05d0 now");
    EXPECT_FALSE(read_bidi("say \u05d0\u05d1 now").right_to_left);
    EXPECT_FALSE(read_bidi("\u05d0 = 1;", true).right_to_left);      // code
    EXPECT_EQ(in_visual_order("\u05d0(\u05d1)"), "(\u05d1)\u05d0");  // brackets are mirrored
}

TEST(Bidi, ArabicLettersAreJoined) {
    // beh, beh, beh: initial, medial, final, from the right.
    EXPECT_EQ(in_visual_order("\u0628\u0628\u0628"), "\ufe90\ufe92\ufe91");
    // lam and alef are one letter.
    const BidiParagraph p = read_bidi("\u0644\u0627");
    EXPECT_EQ(p.shown, (std::vector<char32_t>{0, 0xfefb}));
    EXPECT_EQ(p.byte, (std::vector<uint32_t>{0, 2, 4}));
}

TEST(Bidi, ALineOfAParagraphIsOrderedByItself) {
    const BidiParagraph p = read_bidi("\u05d0\u05d1 \u05d2\u05d3");
    EXPECT_EQ(line_order(p, 0, 3), (std::vector<uint32_t>{2, 1, 0}));  // the space at its end stands at the left
    EXPECT_EQ(line_order(p, 3, 5), (std::vector<uint32_t>{4, 3}));
    EXPECT_TRUE(line_order(p, 2, 2).empty());
}

TEST(Bidi, DamagedTextIsNoDanger) {
    const std::string text =
        "\xd7\x90\xff\xd7 \xe2\x80\xae"
        "abc\xf0";
    EXPECT_EQ(read_bidi(text).byte.back(), text.size());
    EXPECT_FALSE(in_visual_order(text).empty());
}

}  // namespace
}  // namespace vkqat
