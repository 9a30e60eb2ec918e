// Several datasets with weights.
#include <gtest/gtest.h>

#include <map>

#include "tests/support/scratch_folder.h"
#include "trainer/data.h"

namespace vkqat {
namespace {

using test::error_of;
using test::ScratchFolder;

// `documents` documents of 7 to 11 copies of a letter; the letter is the id.
std::shared_ptr<const TokenCache> letters(const ScratchFolder& folder, char letter, int documents) {
    std::string text;
    for (int i = 0; i < documents; i++) text += std::string(size_t(7 + i % 5), letter) + "\n\n";
    auto file = folder.write(std::string(1, letter) + ".txt", text);
    TextEncoder encoder;
    encoder.encode = [](std::string_view t) { return std::vector<int32_t>(t.begin(), t.end()); };
    encoder.bos_id = 256;
    encoder.vocab_size = 257;
    return std::make_shared<TokenCache>(tokenize_corpus({file}, {}, encoder, folder / "cache", 1));
}

BatchOptions options(int64_t batch, int64_t rank = 0, int64_t world = 1) {
    return {.batch_size = batch, .seq_len = 12, .bos_id = 256, .seed = 3, .rank = rank, .world_size = world};
}

// Which dataset each window is of: the smallest id that is no BOS.
std::string kinds(const Batch& batch) {
    std::string text;
    for (int64_t row = 0; row < batch.batch; row++) {
        auto begin = batch.ids.begin() + row * batch.seq_len;
        text += char(*std::min_element(begin, begin + batch.seq_len));
    }
    return text;
}

TEST(Mixture, SharesFollowTheWeightsAtEveryMoment) {
    ScratchFolder folder;
    BatchSource source(
        std::vector<WeightedTokens>{{letters(folder, 'a', 200), 5}, {letters(folder, 'b', 40), 3}, {letters(folder, 'c', 9), 2}},
        options(1));
    std::map<char, int> count;
    for (int window = 1; window <= 300; window++) {
        const Batch batch = source.next();
        const std::string kind = kinds(batch);
        for (int32_t id : batch.ids) EXPECT_TRUE(id == kind[0] || id == 256) << "a window has one dataset";
        count[kind[0]]++;
        EXPECT_NEAR(count['a'], 0.5 * window, 1);
        EXPECT_NEAR(count['b'], 0.3 * window, 1);
        EXPECT_NEAR(count['c'], 0.2 * window, 1);
    }
    // 60 windows of 13 tokens from nine documents of 10 tokens on average with their BOS: read eight times; the least read
    // dataset, of 200 documents, is in its first epoch.
    const DataPosition position = source.position();
    EXPECT_EQ(position.windows, 300u);
    EXPECT_EQ(position.streams[2].epoch, 8u);
    EXPECT_EQ(position.epoch(), 0u);
}

TEST(Mixture, GoesOnFromASavedPositionAndIsTheSameForAnyNumberOfRanks) {
    ScratchFolder folder;
    const std::vector<WeightedTokens> datasets{{letters(folder, 'a', 30), 0.3}, {letters(folder, 'b', 10), 0.7}};
    BatchSource alone(datasets, options(6));
    BatchSource ranks[] = {BatchSource(datasets, options(2, 0, 3)), BatchSource(datasets, options(2, 1, 3)),
                           BatchSource(datasets, options(2, 2, 3))};
    for (int i = 0; i < 20; i++) {
        BatchSource resumed(datasets, options(6));
        resumed.restore(data_position_from_json(data_position_to_json(alone.position())));
        EXPECT_EQ(resumed.position(), alone.position());
        const Batch whole = alone.next(), again = resumed.next();
        EXPECT_EQ(whole.ids, again.ids);
        EXPECT_EQ(whole.labels, again.labels);
        for (int rank = 0; rank < 3; rank++) {
            const Batch part = ranks[rank].next();
            for (int64_t row = 0; row < 2; row++)
                EXPECT_TRUE(std::equal(part.ids.begin() + row * 12, part.ids.begin() + (row + 1) * 12,
                                       whole.ids.begin() + (row * 3 + rank) * 12));
            EXPECT_EQ(ranks[rank].position(), alone.position());
        }
    }
}

TEST(Mixture, PositionsOfOneDatasetAndOfOlderFilesAreRead) {
    const DataPosition old = data_position_from_json(
        R"({"seed": 3, "epoch": 1, "document": 2, "offset": 4, "windows": 55, "corpus": 18446744073709551615})");
    EXPECT_EQ(old.windows, 55u);
    ASSERT_EQ(old.streams.size(), 1u);
    EXPECT_EQ(old.streams[0], (StreamPosition{3, 1, 2, 4, 55, UINT64_MAX}));
    EXPECT_EQ(data_position_from_json(data_position_to_json(old)), old);

    ScratchFolder folder;
    auto a = letters(folder, 'a', 30);
    BatchSource two(std::vector<WeightedTokens>{{a, 1}, {a, 1}}, options(1)), one(a, options(1));
    EXPECT_CONTAINS(error_of([&] { one.restore(two.position()); }), "saved with 2 datasets, the configuration has 1");
    EXPECT_CONTAINS(error_of([&] { BatchSource(std::vector<WeightedTokens>{{a, 0}}, options(1)); }), "weight is 0");
    for (const char* json : {R"({"windows": 1, "datasets": 3})", R"({"windows": 1, "datasets": [1]})", R"({"datasets": []})"})
        EXPECT_CONTAINS(error_of([&] { data_position_from_json(json); }), "data position");
}

}  // namespace
}  // namespace vkqat
