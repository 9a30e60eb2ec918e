#include "runtime/text/utf8.h"

#include <gtest/gtest.h>

namespace vkqat {
namespace {

const std::string fffd = "\xEF\xBF\xBD";

TEST(Utf8, ReplacesMaximalSubpartsAsPythonDoes) {
    // The right sides are bytes.decode("utf-8", errors="replace") of Python 3.11.
    EXPECT_EQ(utf8_lossy("a\xFFz"), "a" + fffd + "z");
    EXPECT_EQ(utf8_lossy("\xE2\x82"), fffd);
    EXPECT_EQ(utf8_lossy("\xE2\x82z"), fffd + "z");
    EXPECT_EQ(utf8_lossy("\xF0\x9F\x98z"), fffd + "z");
    EXPECT_EQ(utf8_lossy("\xC0\x80"), fffd + fffd);
    EXPECT_EQ(utf8_lossy("\xED\xA0\x80"), fffd + fffd + fffd);
    EXPECT_EQ(utf8_lossy("\xF4\x90\x80\x80"), fffd + fffd + fffd + fffd);
    EXPECT_EQ(utf8_lossy("\xE0\x80\xAF"), fffd + fffd + fffd);
}

TEST(Utf8, KeepsEveryCodePoint) {
    for (char32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
        if (c >= 0xD800 && c < 0xE000) continue;
        std::string text;
        utf8_append(text, c);
        const Utf8Char read = utf8_at(text, 0);
        ASSERT_TRUE(read.valid) << uint32_t(c);
        ASSERT_EQ(read.code, c);
        ASSERT_EQ(read.length, text.size());
    }
}

TEST(Utf8Stream, HoldsBackWhatIsNotYetACharacter) {
    const std::string text = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\xA6\x99z";
    for (size_t step = 1; step < 5; ++step) {
        Utf8Stream stream;
        std::string out;
        for (size_t i = 0; i < text.size(); i += step) {
            const std::string piece = stream.push(std::string_view(text).substr(i, step));
            EXPECT_TRUE(utf8_valid(piece));
            EXPECT_EQ(piece.find(fffd), std::string::npos);
            out += piece;
        }
        EXPECT_EQ(out + stream.finish(), text);
    }
}

TEST(Utf8Stream, ShowsIllFormedBytesAtOnceAndTheRestAtTheEnd) {
    Utf8Stream stream;
    EXPECT_EQ(stream.push("a\xFF"), "a" + fffd);
    EXPECT_EQ(stream.push("\xF0\x9F"), "");
    EXPECT_EQ(stream.push("b\xE2"), fffd + "b");
    EXPECT_EQ(stream.finish(), fffd);
    EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace vkqat
