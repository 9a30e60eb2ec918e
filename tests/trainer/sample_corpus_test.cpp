#include "trainer/sample_corpus.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "runtime/support/files.h"
#include "tests/support/scratch_folder.h"
#include "trainer/corpus_reader.h"
#include "trainer/sample_grammar.h"

namespace vkqat {
namespace {

using test::error_of;
using test::ScratchFolder;

std::vector<std::string> documents_of(const std::filesystem::path& file) {
    DocumentReader reader({file}, {});
    std::vector<std::string> all;
    Document document;
    while (reader.next(document)) all.push_back(document.text);
    return all;
}

TEST(SampleGrammar, ExpandsChoicesSlotsAndArticles) {
    std::mt19937_64 random(1);
    Slots slots{{"n", "Tom"}, {"thing", "apple"}, {"c", "red"}};
    EXPECT_EQ(expand("[N] has a~ [thing]. [Thing]! A~ [c] {one} a~ {owl}.", slots, random),
              "Tom has an apple. Apple! A red one an owl.");
    EXPECT_EQ(expand("<x={owl|owl}>[x] {} [X] {|} ", slots, random), "owl Owl");
    std::set<std::string> seen;
    for (int i = 0; i < 200; ++i) seen.insert(expand("{a{b|c}|d|}", slots, random));
    EXPECT_EQ(seen, (std::set<std::string>{"ab", "ac", "d", ""}));
    EXPECT_CONTAINS(error_of([&] { expand("[nobody]", slots, random); }), "nobody");
    EXPECT_CONTAINS(error_of([&] { expand("{a|b", slots, random); }), "unbalanced");
    EXPECT_CONTAINS(error_of([&] { expand("[n", slots, random); }), "unbalanced");
}

TEST(SampleCorpus, IsTheSameForASeedAndOfTheSizeAskedFor) {
    ScratchFolder folder;
    write_sample_corpus(folder / "a", 1, 100000);
    write_sample_corpus(folder / "b", 1, 100000);
    write_sample_corpus(folder / "c", 2, 100000);
    std::string train = read_text_file(folder / "a/train.txt"), valid = read_text_file(folder / "a/valid.txt");
    EXPECT_EQ(train, read_text_file(folder / "b/train.txt"));
    EXPECT_EQ(valid, read_text_file(folder / "b/valid.txt"));
    EXPECT_NE(train, read_text_file(folder / "c/train.txt"));
    EXPECT_NEAR(double(train.size() + valid.size()), 100000, 2000);
    EXPECT_NEAR(double(valid.size()), 5000, 2000);
    EXPECT_CONTAINS(error_of([&] { write_sample_corpus(folder / "d", 1, 10); }), "10 bytes");
}

TEST(SampleCorpus, HoldsNoDocumentTwice) {
    ScratchFolder folder;
    write_sample_corpus(folder.path(), 3, 1000000);
    std::set<std::string> seen;
    size_t count = 0;
    for (const char* name : {"train.txt", "valid.txt"})
        for (const std::string& document : documents_of(folder / name)) {
            ++count;
            seen.insert(document);
        }
    EXPECT_EQ(seen.size(), count);
    EXPECT_GT(count, 2000u);
}

// Every plot and every kind of question comes up here many times, so a template that is wrong is seen.
TEST(SampleCorpus, IsCleanEnglishText) {
    std::mt19937_64 random(9);
    std::set<std::string> words;
    for (int i = 0; i < 6000; ++i) {
        std::string text = i % 2 ? sample_story(random) : sample_questions(random);
        ASSERT_EQ(text.find_first_of("{}[]<>|~"), std::string::npos) << text;
        ASSERT_EQ(text.find("  "), std::string::npos) << text;
        ASSERT_EQ(text.find("\n\n"), std::string::npos) << text;
        for (char c : text) ASSERT_TRUE(c == '\n' || (c >= ' ' && c < 127)) << text;
        ASSERT_TRUE(text[0] >= 'A' && text[0] <= 'Z') << text;
        ASSERT_NE(std::string(".!?\"").find(text.back()), std::string::npos) << text;
        for (size_t at = 0; at + 2 < text.size(); ++at) {
            if (text[at] == ' ') {
                // " a apple", " an ball"
                bool vowel_behind_a =
                    text.compare(at, 3, " a ") == 0 && std::string("aeiou").find(text[at + 3]) != std::string::npos;
                bool consonant_behind_an =
                    text.compare(at, 4, " an ") == 0 && std::string("aeiou").find(text[at + 4]) == std::string::npos;
                ASSERT_FALSE(vowel_behind_a || consonant_behind_an) << text;
                ASSERT_EQ(std::string(".,!?").find(text[at + 1]), std::string::npos) << text;
            }
            // A sentence begins with a capital.
            if ((text[at] == '.' || text[at] == '\n') && at + 2 < text.size()) {
                char next = text[at] == '.' ? text[at + 2] : text[at + 1];
                if (text[at] == '\n' || text[at + 1] == ' ') {
                    ASSERT_FALSE(next >= 'a' && next <= 'z') << text;
                }
            }
        }
        std::string word;
        for (char c : text + " ") {
            if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
                word += char(c | 0x20);
            else if (!word.empty())
                words.insert(std::exchange(word, ""));
        }
    }
    EXPECT_LT(words.size(), 1000u) << "a small vocabulary";
    EXPECT_GT(words.size(), 500u);
}

TEST(SampleCorpus, SumsAreRight) {
    std::mt19937_64 random(4);
    int sums = 0;
    for (int i = 0; i < 4000; ++i) {
        std::istringstream lines(sample_questions(random));
        for (std::string line; std::getline(lines, line);) {
            int a, b, c;
            char op[8];
            if (std::sscanf(line.c_str(), "Answer: %d %7s %d is %d.", &a, op, &b, &c) == 4 && (op[0] == 'p' || op[1] == 'i')) {
                ++sums;
                ASSERT_EQ(op[0] == 'p' ? a + b : a - b, c) << line;
            }
        }
    }
    EXPECT_GT(sums, 100);
}

}  // namespace
}  // namespace vkqat
