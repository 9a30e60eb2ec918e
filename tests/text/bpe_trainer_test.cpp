#include "runtime/text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "runtime/support/files.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"
#include "tests/support/scratch_folder.h"

namespace vkqat {
namespace {

using test::error_of;
using test::ScratchFolder;

std::vector<std::string> sample_texts(size_t bytes) {
    const char* words[] = {"the",          "little",           "fox", "ran",  "home", "and", "said", "hello",
                           "M\xC3\xA4use", "\xF0\x9F\xA6\x8A", "42",  "don't"};
    std::mt19937 random(3);
    std::vector<std::string> texts;
    for (size_t size = 0; size < bytes;) {
        std::string text;
        for (int i = 0; i < 60; ++i) {
            const auto pick = random() % 20;
            if (pick < 12) {
                text += words[pick];
            } else {  // rare words, so that the vocabulary has something to grow on
                for (auto n = random() % 6 + 1; n > 0; --n) text += char('a' + random() % 26);
            }
            text += i % 9 == 8 ? ".\n" : " ";
        }
        size += text.size();
        texts.push_back(std::move(text));
    }
    return texts;
}

TEST(BpeTrainer, MergesTheMostFrequentPairFirstAndTheLowerIdsOfEqualOnes) {
    const std::vector<std::string> texts = {"aaab aaab xy", "ab cd cd"};
    BpeTrainingOptions options;
    options.special_tokens = {"<e>"};
    options.bos_token = options.pad_token = "";
    options.eos_token = "<e>";
    options.vocab_size = 1 + 256 + 3;
    const BpeTraining training = train_bpe(texts, options);
    ASSERT_EQ(training.tokens.size(), 260u);
    EXPECT_EQ(training.tokens[0], "<e>");
    // Words: "aaab" 1, " aaab" 1, " xy" 1, "ab" 1, " cd" 2. Pairs: aa 4, ab 3, the rest at most 2.
    EXPECT_EQ(training.merges[0], (std::pair<std::string, std::string>("a", "a")));
    // Now aa+a 2, a+b 3.
    EXPECT_EQ(training.merges[1], (std::pair<std::string, std::string>("a", "b")));
    // aa+ab 2, cd 2, space+c 2: by the ids of the left part, space (0x20) is byte 32, c 99, aa behind all bytes.
    EXPECT_EQ(training.merges[2], (std::pair<std::string, std::string>("\xC4\xA0", "c")));
}

TEST(BpeTrainer, WritesATokenizerThatLoadsAndRoundTrips) {
    ScratchFolder folder;
    BpeTrainingOptions options;
    options.vocab_size = 600;
    options.chat_template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    const auto texts = sample_texts(100'000);
    write_tokenizer(folder / "t", train_bpe(texts, options), options);
    const Tokenizer t = load_tokenizer(folder / "t");
    EXPECT_EQ(t.vocab_size(), 600u);
    EXPECT_EQ(t.bos(), 0);
    EXPECT_EQ(t.eos(), 1);
    EXPECT_EQ(t.pad(), 2);
    size_t bytes = 0, ids = 0;
    for (const std::string& text : texts) {
        const auto encoded = t.encode(text);
        ASSERT_EQ(encoded[0], 0);
        ASSERT_EQ(t.decode(encoded), text);
        bytes += text.size();
        ids += encoded.size();
    }
    EXPECT_LT(ids * 2, bytes);  // it has learnt something
    EXPECT_EQ(t.decode(t.encode("\xE4\xBD\xA0 never seen \x01\x7F")), "\xE4\xBD\xA0 never seen \x01\x7F");
    EXPECT_EQ(t.encode("<|end_of_text|>", {.add_bos = false, .parse_special = true}), std::vector<TokenId>{1});
    const ChatMessage message{"user", "hi"};
    EXPECT_EQ(render_chat(load_chat_template(folder / "t", t), {&message, 1}, false), "<|begin_of_text|>[user]hi");
}

TEST(BpeTrainer, GivesTheSameBytesForTheSameTexts) {
    ScratchFolder folder;
    BpeTrainingOptions options;
    options.vocab_size = 1000;
    for (const char* name : {"one", "two"}) write_tokenizer(folder / name, train_bpe(sample_texts(200'000), options), options);
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
        EXPECT_EQ(read_text_file(folder / "one" / file), read_text_file(folder / "two" / file));
}

TEST(BpeTrainer, StopsWhereNoPairOccursTwice) {
    const std::vector<std::string> texts = {"abc"};
    EXPECT_EQ(train_bpe(texts, {}).tokens.size(), 3u + 256u);
    EXPECT_EQ(train_bpe({}, {}).tokens.size(), 3u + 256u);
}

TEST(BpeTrainer, TakesHostileTexts) {
    std::vector<std::string> texts = {std::string(1 << 20, 'a'), std::string(1 << 18, '\xFF'), std::string(1 << 18, ' ')};
    BpeTrainingOptions options;
    options.vocab_size = 300;
    const BpeTraining training = train_bpe(texts, options);
    EXPECT_GT(training.tokens.size(), 265u);
}

TEST(BpeTrainer, RefusesImpossibleOptions) {
    auto error = [](auto change) {
        BpeTrainingOptions options;
        change(options);
        return error_of([&] { train_bpe({}, options); });
    };
    EXPECT_CONTAINS(error([](auto& o) { o.vocab_size = 258; }), "expected a vocabulary of 259");
    EXPECT_CONTAINS(error([](auto& o) { o.vocab_size = 2'000'000; }), "to 1000000");
    EXPECT_CONTAINS(error([](auto& o) { o.special_tokens.push_back(""); }), "empty, doubled");
    EXPECT_CONTAINS(error([](auto& o) { o.special_tokens.push_back("<|pad|>"); }), "empty, doubled");
    EXPECT_CONTAINS(error([](auto& o) { o.special_tokens.push_back("a"); }), "is that of a byte");
    EXPECT_CONTAINS(error([](auto& o) { o.eos_token = "<e>"; }), "not among the special tokens");
}

}  // namespace
}  // namespace vkqat
