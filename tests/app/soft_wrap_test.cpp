#include "app/core/soft_wrap.h"

#include <gtest/gtest.h>

namespace vkqat {
namespace {

float one_each(std::string_view text) { return float(text.size()); }

TEST(SoftWrap, BreaksBehindSpacesAndComesBack) {
    const std::string text = "the quick brown fox\njumps";
    const std::string wrapped = with_soft_breaks(text, 10, one_each);
    EXPECT_EQ(wrapped, "the quick " + std::string(soft_break) + "brown fox\njumps");
    EXPECT_EQ(without_soft_breaks(wrapped), text);
}

TEST(SoftWrap, BreaksWordsThatAreLongerThanALine) {
    const std::string text = "ab abcdefghijklmnopqrstuvwxyz äöüäöüäöü";
    const std::string wrapped = with_soft_breaks(text, 8, one_each);
    EXPECT_EQ(without_soft_breaks(wrapped), text);
    for (size_t at = 0; at < wrapped.size();) {
        const size_t end = std::min(wrapped.find(soft_break, at), wrapped.size());
        EXPECT_LE(end - at, 9u);  // a space may hang over
        at = end + soft_break.size();
    }
}

TEST(SoftWrap, TheCursorStaysAtItsCharacter) {
    const std::string text = "the quick brown fox";
    for (int place = 0; place <= int(text.size()); place++) {
        int moved = place;
        const std::string wrapped = with_soft_breaks(text, 10, one_each, {&moved});
        int back = moved;
        EXPECT_EQ(without_soft_breaks(wrapped, {&back}), text);
        EXPECT_EQ(back, place);
    }
}

TEST(SoftWrap, ALineFeedThatWasDeletedTakesTheCharacterBeforeIt) {
    const std::string wrapped = with_soft_breaks("the quick brown fox", 10, one_each);
    std::string edited = wrapped;
    const size_t at = edited.find(soft_break);
    edited.erase(at + soft_break.size() - 1, 1);  // backspace at the beginning of the second line
    int cursor = int(at + soft_break.size() - 1);
    EXPECT_EQ(without_soft_breaks(edited, {&cursor}), "the quickbrown fox");
    EXPECT_EQ(cursor, 9);
}

TEST(SoftWrap, EmptyAndDegenerate) {
    EXPECT_EQ(with_soft_breaks("", 10, one_each), "");
    EXPECT_EQ(without_soft_breaks(""), "");
    EXPECT_EQ(without_soft_breaks(with_soft_breaks("a  b \n\n c", 1, one_each)), "a  b \n\n c");
    EXPECT_EQ(without_soft_breaks(with_soft_breaks("abc", 0, one_each)), "abc");
}

}  // namespace
}  // namespace vkqat
