#include "runtime/text/tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/text/byte_level.h"
#include "tests/text/small_tokenizer.h"

namespace vkqat {
namespace {

using test::error_of;
using test::load_json;
using test::ScratchFolder;
using test::small_tokenizer;

using Ids = std::vector<TokenId>;

TEST(TokenizerJson, MergesByRankThenFromTheLeft) {
    ScratchFolder folder;
    auto json = small_tokenizer();  // a b c ab bc abc; merges bc, ab, a+bc
    const Tokenizer t = load_json(folder, json);
    EXPECT_EQ(t.encode("ab"), Ids{3});
    EXPECT_EQ(t.encode("abc"), Ids{5});  // a+bc, as bc comes before ab
    EXPECT_EQ(t.encode("abab"), (Ids{3, 3}));
    EXPECT_EQ(t.encode("abcab"), (Ids{5, 3}));
    json["model"]["merges"] = {"a b", "b c"};
    EXPECT_EQ(load_json(folder, json).encode("abc"), (Ids{3, 2}));
}

TEST(TokenizerJson, TakesMergesAsStringsOrPairs) {
    ScratchFolder folder;
    auto json = small_tokenizer();
    json["model"]["merges"] = nlohmann::json::parse(R"([["b", "c"], ["a", "b"], ["a", "bc"]])");
    EXPECT_EQ(load_json(folder, json).encode("abcab"), (Ids{5, 3}));
}

TEST(TokenizerJson, IgnoreMergesTakesAWordThatIsAToken) {
    ScratchFolder folder;
    auto json = small_tokenizer();
    json["model"]["merges"] = nlohmann::json::array();
    EXPECT_EQ(load_json(folder, json).encode("abc"), (Ids{0, 1, 2}));
    json["model"]["ignore_merges"] = true;
    EXPECT_EQ(load_json(folder, json).encode("abc"), Ids{5});
}

TEST(TokenizerJson, UnknownCharactersAreDroppedOrUnknownOrBytes) {
    ScratchFolder folder;
    auto json = small_tokenizer();
    EXPECT_EQ(load_json(folder, json).encode("a?c"), (Ids{0, 2}));
    EXPECT_EQ(load_json(folder, json).encode("a??b"), Ids{3});  // what is dropped does not part its neighbours
    json["model"]["vocab"]["<unk>"] = 6;
    json["model"]["unk_token"] = "<unk>";
    EXPECT_EQ(load_json(folder, json).encode("a??b"), (Ids{0, 6, 6, 1}));
    json["model"]["fuse_unk"] = true;
    EXPECT_EQ(load_json(folder, json).encode("a??b?"), (Ids{0, 6, 1, 6}));
    json["model"]["vocab"]["<0xC3>"] = 7;
    json["model"]["vocab"]["<0xA4>"] = 8;
    json["model"]["byte_fallback"] = true;
    json["decoder"] = {{"type", "ByteFallback"}};
    const Tokenizer t = load_json(folder, json);
    EXPECT_EQ(t.encode("a\xC3\xA4\xC3\xB6"), (Ids{0, 7, 8, 6}));
    EXPECT_EQ(t.decode(Ids{0, 7, 8}), "a\xC3\xA4");
    EXPECT_EQ(t.decode_piece(7), "\xC3");
}

TEST(TokenizerJson, AddedTokensAreCutOutFirst) {
    ScratchFolder folder;
    auto json = small_tokenizer();
    auto add = [&](int id, const char* content, const char* flag) {
        nlohmann::json token = {{"id", id}, {"content", content}, {"special", false}, {"normalized", false}};
        if (*flag) token[flag] = true;
        json["added_tokens"].push_back(token);
    };
    add(10, "<x>", "special");
    add(11, "<x>a", "");
    add(12, "<l>", "lstrip");
    add(13, "<r>", "rstrip");
    add(14, "cab", "single_word");
    const Tokenizer t = load_json(folder, json);
    EXPECT_EQ(t.vocab_size(), 15u);
    const EncodeOptions special = {.add_bos = std::nullopt, .add_eos = false, .parse_special = true};
    EXPECT_EQ(t.encode("b<x>b", special), (Ids{1, 10, 1}));
    EXPECT_EQ(t.encode("b<x>b"), (Ids{1, 1}));                // text; these characters are no tokens here
    EXPECT_EQ(t.encode("b<x>ab", special), (Ids{1, 11, 1}));  // the longest
    EXPECT_EQ(t.encode("<x>ab"), (Ids{11, 1}));
    EXPECT_EQ(t.encode("a \t\xE2\x80\x83<l> b"), (Ids{0, 12, 1}));
    EXPECT_EQ(t.encode("a <r> \n<r>b"), (Ids{0, 13, 13, 1}));
    EXPECT_EQ(t.encode("cab"), (Ids{14}));
    EXPECT_EQ(t.encode("acab cab"), (Ids{0, 2, 3, 14}));
    EXPECT_EQ(t.decode(Ids{0, 10, 14}, true), "a<x>cab");
    EXPECT_EQ(t.decode(Ids{0, 10, 14}), "acab");
    EXPECT_TRUE(t.is_special(10));
    EXPECT_EQ(t.id("<x>"), 10);
    EXPECT_EQ(t.id("nothing"), std::nullopt);
    EXPECT_EQ(t.token(7), "");  // a gap
}

TEST(TokenizerJson, TemplateProcessingDecidesWhatATextBeginsWith) {
    ScratchFolder folder;
    auto json = small_tokenizer();
    json["added_tokens"] = {{{"id", 6}, {"content", "<s>"}, {"special", true}},
                            {{"id", 7}, {"content", "</s>"}, {"special", true}}};
    const Tokenizer plain = load_json(folder, json);
    EXPECT_EQ(plain.encode("a"), Ids{0});
    EXPECT_EQ(plain.encode("a", {.add_bos = true}), (Ids{6, 0}));  // by its common name
    auto token = [](const char* name) { return nlohmann::json{{"SpecialToken", {{"id", name}, {"type_id", 0}}}}; };
    json["post_processor"] = {{"type", "TemplateProcessing"},
                              {"single", {token("<s>"), {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, token("</s>")}},
                              {"special_tokens",
                               {{"<s>", {{"id", "<s>"}, {"ids", {6}}, {"tokens", {"<s>"}}}},
                                {"</s>", {{"id", "</s>"}, {"ids", {7}}, {"tokens", {"</s>"}}}}}}};
    const Tokenizer templated = load_json(folder, json);
    EXPECT_EQ(templated.bos(), 6);
    EXPECT_EQ(templated.encode("a"), (Ids{6, 0}));
    EXPECT_EQ(templated.encode("a", {.add_bos = false}), Ids{0});
    EXPECT_EQ(templated.encode("a", {.add_eos = true}), (Ids{6, 0, 7}));
    folder.write("tokenizer_config.json", R"({"bos_token": {"content": "</s>"}, "eos_token": "<s>", "pad_token": null})");
    const Tokenizer renamed = load_json(folder, json);
    EXPECT_EQ(renamed.bos(), 7);
    EXPECT_EQ(renamed.eos(), 6);
    EXPECT_EQ(renamed.pad(), std::nullopt);
}

TEST(TokenizerJson, AStartTokenThatIsNotThereIsAnError) {
    ScratchFolder folder;
    const Tokenizer t = load_json(folder, small_tokenizer());
    EXPECT_CONTAINS(error_of([&] { t.encode("a", {.add_bos = true}); }), "start token");
    EXPECT_CONTAINS(error_of([&] { t.encode("a", {.add_eos = true}); }), "end token");
}

TEST(TokenizerJson, IdsOutsideTheVocabularyAreErrors) {
    ScratchFolder folder;
    const Tokenizer t = load_json(folder, small_tokenizer());
    for (TokenId id : {-1, 6, 1 << 30}) {
        EXPECT_CONTAINS(error_of([&] { t.decode(Ids{0, id}); }), "outside the vocabulary of 6");
        EXPECT_CONTAINS(error_of([&] { t.token(id); }), "outside");
    }
}

TEST(TokenizerJson, ThreadsShareATokenizer) {
    ScratchFolder folder;
    const Tokenizer t = load_json(folder, small_tokenizer());
    std::vector<Ids> found(4);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < found.size(); ++i)
        threads.emplace_back([&, i] {
            for (int k = 0; k < 2000; ++k) found[i] = t.encode(std::string(size_t(k % 50), 'c') + "abcab");
        });
    for (auto& thread : threads) thread.join();
    for (const Ids& ids : found) EXPECT_EQ(ids, found[0]);
    EXPECT_EQ(found[0].size(), 51u);
}

TEST(ByteLevel, IsABijection) {
    for (int b = 0; b < 256; ++b) {
        const std::string byte(1, char(b));
        EXPECT_EQ(from_byte_level(to_byte_level(byte)), byte);
    }
    EXPECT_EQ(to_byte_level(" \n!"), "\xC4\xA0\xC4\x8A!");
    EXPECT_EQ(from_byte_level("a b"), std::nullopt);  // a space is not of the alphabet
}

TEST(LoadTokenizer, PrefersTheJsonAndTakesASingleModelFile) {
    ScratchFolder folder;
    EXPECT_CONTAINS(error_of([&] { load_tokenizer(folder.path()); }), "no tokenizer");
    EXPECT_CONTAINS(error_of([&] { load_tokenizer(folder / "absent.json"); }), "absent.json");
    folder.write("a.model", "x");
    EXPECT_CONTAINS(error_of([&] { load_tokenizer(folder.path()); }), "a.model");
    folder.write("b.model", "x");
    EXPECT_CONTAINS(error_of([&] { load_tokenizer(folder.path()); }), "found 2");
    folder.write("tokenizer.json", small_tokenizer().dump());
    EXPECT_EQ(load_tokenizer(folder.path()).vocab_size(), 6u);
}

}  // namespace
}  // namespace vkqat
