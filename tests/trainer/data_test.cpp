#include "trainer/data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <numeric>
#include <set>

#include "runtime/support/error.h"
#include "tests/support/reference.h"
#include "tests/support/scratch_folder.h"
#include "trainer/random.h"

namespace vkqat {
namespace {

using test::error_of;
using test::ScratchFolder;

constexpr int32_t bos = 256, eos = 257;

// One id per byte.
TextEncoder byte_encoder(int32_t vocab_size = 258) {
    TextEncoder encoder;
    encoder.encode = [](std::string_view text) {
        std::vector<int32_t> ids;
        for (char c : text) ids.push_back(uint8_t(c));
        return ids;
    };
    encoder.bos_id = bos;
    encoder.eos_id = eos;
    encoder.vocab_size = vocab_size;
    encoder.digest = "bytes";
    return encoder;
}

// Documents "1;", "2;;", ... : each of its own length, recognizable by its text.
std::vector<std::string> some_documents(size_t count) {
    std::vector<std::string> documents;
    for (size_t i = 1; i <= count; ++i) documents.push_back(std::to_string(i) + std::string(1 + i % 7, ';'));
    return documents;
}

std::shared_ptr<const TokenCache> cache_of(const ScratchFolder& folder, const std::vector<std::string>& documents,
                                           int32_t vocab_size = 258) {
    std::string text;
    for (const std::string& d : documents) text += d + "\n\n";
    auto file = folder.write("corpus.txt", text);
    return std::make_shared<TokenCache>(tokenize_corpus({file}, {}, byte_encoder(vocab_size), folder / "cache", 3));
}

BatchOptions options_of(int64_t batch, int64_t seq_len, uint64_t seed = 5) {
    BatchOptions o;
    o.batch_size = batch;
    o.seq_len = seq_len;
    o.bos_id = bos;
    o.eos_id = eos;
    o.seed = seed;
    return o;
}

std::string text_of(const TokenSpan& ids) {
    std::string text;
    for (uint64_t i = 0; i < ids.size(); ++i) text += char(ids[i]);
    return text;
}

bool same(const Batch& a, const Batch& b) {
    return a.ids == b.ids && a.labels == b.labels && a.document_start == b.document_start && a.document_end == b.document_end;
}

TEST(DataRandom, IsTheSameOnEveryPlatform) {
    std::mt19937_64 random(1);
    std::vector<uint64_t> drawn;
    for (int i = 0; i < 5; ++i) drawn.push_back(uniform_below(random, 1000));
    std::mt19937_64 raw(1);
    for (uint64_t x : drawn) EXPECT_EQ(x, raw() % 1000) << "1000 leaves almost nothing to reject";
    EXPECT_EQ(mix64(0), 0xe220a8397b1dcdafu) << "the first output of the published splitmix64 with seed 0";
}

TEST(DataRandom, APermutationHitsEveryIndexOnceAndDependsOnItsKey) {
    for (uint64_t count : {1u, 2u, 3u, 5u, 16u, 17u, 1000u, 4097u}) {
        Permutation a(count, 1), b(count, 2);
        std::set<uint64_t> seen;
        uint64_t fixed = 0, equal = 0;
        for (uint64_t i = 0; i < count; ++i) {
            ASSERT_LT(a(i), count);
            seen.insert(a(i));
            fixed += a(i) == i;
            equal += a(i) == b(i);
        }
        EXPECT_EQ(seen.size(), count);
        // A random permutation keeps one index in its place on average; 12 happen once in 10^9 tries.
        if (count >= 1000) {
            EXPECT_LT(fixed, 12u);
            EXPECT_LT(equal, 12u);
        }
    }
    EXPECT_LT(Permutation(uint64_t(1) << 63, 1)(12345), uint64_t(1) << 63);
}

TEST(TokenCache, HoldsEveryDocumentInOrder) {
    for (int32_t vocab_size : {258, 128256}) {  // 16 and 32 bits
        ScratchFolder folder;
        auto documents = some_documents(5000);
        auto cache = cache_of(folder, documents, vocab_size);
        ASSERT_EQ(cache->documents(), documents.size());
        uint64_t tokens = 0;
        for (size_t i = 0; i < documents.size(); ++i) {
            ASSERT_EQ(text_of(cache->document(i)), documents[i]);
            tokens += documents[i].size();
        }
        EXPECT_EQ(cache->tokens(), tokens);
    }
}

TEST(TokenCache, IsMadeOnceForTheSameFilesAndTokenizer) {
    ScratchFolder folder;
    auto file = folder.write("corpus.txt", "one\n\ntwo\n");
    TextEncoder encoder = byte_encoder();
    auto calls = std::make_shared<std::atomic<int>>(0);
    auto inner = encoder.encode;
    encoder.encode = [calls, inner](std::string_view text) {
        ++*calls;
        return inner(text);
    };
    auto make = [&] { return tokenize_corpus({file}, {}, encoder, folder / "cache", 2).checksum(); };
    uint64_t checksum = make();
    EXPECT_EQ(*calls, 2);
    EXPECT_EQ(make(), checksum);
    EXPECT_EQ(*calls, 2) << "the cache was used";
    encoder.digest = "another";
    EXPECT_EQ(make(), checksum);
    EXPECT_EQ(*calls, 4) << "another tokenizer";
    folder.write("corpus.txt", "one\n\ntwo\n\nthree\n");
    EXPECT_NE(make(), checksum);
    EXPECT_EQ(*calls, 7) << "another file";
}

TEST(TokenCache, DamageIsNoticedAndRepaired) {
    ScratchFolder folder;
    auto documents = some_documents(50);
    uint64_t checksum = cache_of(folder, documents)->checksum();
    auto file = std::filesystem::directory_iterator(folder / "cache")->path();
    auto overwrite = [&](std::string_view bytes) { folder.write("cache/" + file.filename().string(), bytes); };
    std::string good = read_text_file(file);
    for (size_t at = 0; at < good.size(); at += 11) {
        std::string bad = good;
        bad[at] = char(bad[at] ^ 0x40);
        // A byte of the key is no damage to the content; the key is checked where one is expected.
        if (at >= 8 && at < 16) continue;
        overwrite(bad);
        EXPECT_CONTAINS(error_of([&] { TokenCache cache(file, 258); }), file.string()) << "byte " << at;
    }
    for (size_t keep : {size_t(0), size_t(10), size_t(60), good.size() / 2, good.size() - 8}) {
        overwrite(good.substr(0, keep));
        EXPECT_CONTAINS(error_of([&] { TokenCache cache(file, 258); }), "damaged") << keep;
    }
    overwrite(good);
    EXPECT_CONTAINS(error_of([&] { TokenCache cache(file, 50); }), "in a vocabulary of 50");
    EXPECT_CONTAINS(error_of([&] { TokenCache cache(file, 258, 12345); }), "another tokenizer");
    overwrite(good.substr(0, 100));
    std::string said;
    auto say = [&](const std::string& line) { said += line + "\n"; };
    EXPECT_EQ(tokenize_corpus({folder / "corpus.txt"}, {}, byte_encoder(), folder / "cache", 1, say).checksum(), checksum);
    EXPECT_CONTAINS(said, "damaged");
}

TEST(TokenCache, BadInputLeavesNoFile) {
    ScratchFolder folder;
    auto empty = folder.write("empty.txt", " \n\n\n");
    auto text = folder.write("text.txt", "good\n\n\xf0 too large an id");
    auto json = folder.write("bad.jsonl", "{\"text\": \"good\"}\nbad\n");
    auto make = [&](const std::filesystem::path& file, int32_t vocab_size) {
        tokenize_corpus({file}, {}, byte_encoder(vocab_size), folder / "cache", 2);
    };
    EXPECT_CONTAINS(error_of([&] { make(empty, 258); }), "empty.txt: the corpus is empty");
    EXPECT_CONTAINS(error_of([&] { make(text, 200); }), "text.txt: document 2: the tokenizer gave the id 240");
    EXPECT_CONTAINS(error_of([&] { make(json, 258); }), "bad.jsonl:2: ");
    EXPECT_CONTAINS(error_of([&] { make(folder / "missing.txt", 258); }), "no such file");
    EXPECT_TRUE(std::filesystem::is_empty(folder / "cache"));
}

// The stream of tokens that the windows are cut from, put together again.
TEST(BatchSource, WindowsJoinDocumentsWithBosAndEosAndVisitEachOncePerEpoch) {
    ScratchFolder folder;
    auto documents = some_documents(101);
    auto cache = cache_of(folder, documents);
    uint64_t epoch_tokens = cache->tokens() + 2 * cache->documents();
    BatchSource source(cache, options_of(3, 10));
    std::vector<int32_t> stream;
    while (stream.size() < 2 * epoch_tokens) {
        Batch batch = source.next();
        for (size_t row = 0; row < 3; ++row) {
            stream.insert(stream.end(), &batch.ids[row * 10], &batch.ids[row * 10] + 10);
            stream.push_back(batch.labels[row * 10 + 9]);
            for (size_t i = 0; i + 1 < 10; ++i) ASSERT_EQ(batch.labels[row * 10 + i], batch.ids[row * 10 + i + 1]);
        }
    }
    std::vector<std::string> orders[2];
    for (size_t epoch = 0, at = 0; epoch < 2; ++epoch) {
        for (size_t d = 0; d < documents.size(); ++d) {
            ASSERT_EQ(stream[at++], bos);
            std::string text;
            while (at < stream.size() && stream[at] != eos) text += char(stream[at++]);
            ++at;
            orders[epoch].push_back(text);
        }
        auto sorted = orders[epoch], expected = documents;
        std::sort(sorted.begin(), sorted.end());
        std::sort(expected.begin(), expected.end());
        EXPECT_EQ(sorted, expected);
        EXPECT_NE(orders[epoch], documents) << "shuffled";
    }
    EXPECT_NE(orders[0], orders[1]) << "shuffled anew";
}

TEST(BatchSource, DocumentBoundsKeepDocumentsApart) {
    ScratchFolder folder;
    auto cache = cache_of(folder, some_documents(40));
    constexpr int64_t seq_len = 23;
    BatchSource source(cache, options_of(2, seq_len));
    for (int step = 0; step < 30; ++step) {
        Batch batch = source.next();
        for (int64_t row = 0; row < 2; ++row) {
            const int32_t* ids = &batch.ids[size_t(row * seq_len)];
            const int32_t* first = &batch.document_start[size_t(row * seq_len)];
            const int32_t* end = &batch.document_end[size_t(row * seq_len)];
            int32_t start = 0;
            for (int32_t i = 0; i < seq_len; ++i) {
                if (ids[i] == bos) start = i;
                ASSERT_EQ(first[i], start);
                int32_t stop = i + 1;
                while (stop < seq_len && ids[stop] != bos) ++stop;
                ASSERT_EQ(end[i], stop);
            }
        }
    }
}

TEST(BatchSource, DocumentsLongerThanWindowsAndCorporaShorterThanOneWork) {
    ScratchFolder folder;
    auto cache = cache_of(folder, {"abcdefghij"});
    BatchSource source(cache, options_of(1, 4));
    Batch a = source.next(), b = source.next();
    EXPECT_EQ(a.ids, (std::vector<int32_t>{bos, 'a', 'b', 'c'}));
    EXPECT_EQ(a.labels, (std::vector<int32_t>{'a', 'b', 'c', 'd'}));
    EXPECT_EQ(b.ids, (std::vector<int32_t>{'e', 'f', 'g', 'h'}));
    EXPECT_EQ(b.document_start, (std::vector<int32_t>{0, 0, 0, 0}));
    EXPECT_EQ(b.document_end, (std::vector<int32_t>{4, 4, 4, 4}));
    Batch c = source.next();
    EXPECT_EQ(c.ids, (std::vector<int32_t>{'j', eos, bos, 'a'})) << "into the next epoch";
    EXPECT_EQ(c.labels, (std::vector<int32_t>{eos, bos, 'a', 'b'})) << "EOS is followed by BOS, unmasked";
    EXPECT_EQ(c.document_start, (std::vector<int32_t>{0, 0, 2, 2}));
    EXPECT_EQ(c.document_end, (std::vector<int32_t>{2, 2, 4, 4}));
    EXPECT_EQ(source.position().epoch(), 1u);
    BatchSource longer(cache, options_of(1, 100));
    EXPECT_EQ(longer.next().document_start[99], 96);
}

TEST(BatchSource, BosAndEosMayBeMissing) {
    ScratchFolder folder;
    auto cache = cache_of(folder, {"ab"});
    BatchOptions options = options_of(1, 4);
    options.bos_id = options.eos_id = -1;
    Batch batch = BatchSource(cache, options).next();
    EXPECT_EQ(batch.ids, (std::vector<int32_t>{'a', 'b', 'a', 'b'}));
    EXPECT_EQ(batch.document_start, (std::vector<int32_t>{0, 0, 2, 2}));
}

TEST(BatchSource, AnyNumberOfRanksSeesTheSameWindows) {
    ScratchFolder folder;
    auto cache = cache_of(folder, some_documents(60));
    BatchSource alone(cache, options_of(6, 9));
    for (int64_t world_size : {2, 3}) {
        std::vector<BatchSource> ranks;
        for (int64_t rank = 0; rank < world_size; ++rank) {
            BatchOptions options = options_of(6 / world_size, 9);
            options.rank = rank;
            options.world_size = world_size;
            ranks.emplace_back(cache, options);
        }
        for (BatchSource& rank : ranks) rank.restore(alone.position());
        Batch all = alone.next();
        for (int64_t rank = 0; rank < world_size; ++rank) {
            Batch part = ranks[size_t(rank)].next();
            for (int64_t row = 0; row < 6 / world_size; ++row)
                for (int64_t i = 0; i < 9; ++i) {
                    size_t mine = size_t(row * 9 + i), whole = size_t((row * world_size + rank) * 9 + i);
                    ASSERT_EQ(part.ids[mine], all.ids[whole]);
                    ASSERT_EQ(part.labels[mine], all.labels[whole]);
                    ASSERT_EQ(part.document_start[mine], all.document_start[whole]);
                }
            EXPECT_EQ(ranks[size_t(rank)].position(), alone.position());
        }
    }
}

TEST(BatchSource, ASavedPositionContinuesWithTheSameBatches) {
    ScratchFolder folder;
    auto cache = cache_of(folder, some_documents(30));
    BatchSource source(cache, options_of(2, 13, UINT64_MAX - 1));  // a seed that no double holds
    for (int saved_at = 0; saved_at < 40; ++saved_at) {
        std::string json = data_position_to_json(source.position());
        BatchSource resumed(cache, options_of(2, 13, UINT64_MAX - 1));
        resumed.restore(data_position_from_json(json));
        EXPECT_EQ(resumed.position(), source.position());
        EXPECT_TRUE(same(resumed.next(), source.next()));
    }
    EXPECT_EQ(source.position().windows, 80u);
    EXPECT_FALSE(same(BatchSource(cache, options_of(2, 13, 1)).next(), BatchSource(cache, options_of(2, 13, 2)).next()));
}

TEST(BatchSource, APositionThatDoesNotFitIsAnError) {
    ScratchFolder folder;
    auto cache = cache_of(folder, some_documents(30));
    BatchSource source(cache, options_of(2, 13));
    DataPosition good = source.position(), bad = good;
    bad.streams[0].corpus ^= 1;
    EXPECT_CONTAINS(error_of([&] { source.restore(bad); }), "changed");
    bad = good, bad.streams[0].seed = 6;
    EXPECT_CONTAINS(error_of([&] { source.restore(bad); }), "seed 6");
    bad = good, bad.streams[0].document = 30;
    EXPECT_CONTAINS(error_of([&] { source.restore(bad); }), "document 30");
    bad = good, bad.streams[0].offset = 1000;
    EXPECT_CONTAINS(error_of([&] { source.restore(bad); }), "token 1000");
    EXPECT_EQ(source.position(), good);
    for (const char* json : {"", "[]", "{", "{\"seed\": 1}", "{\"seed\": -1}", "{\"seed\": 1.5}"})
        EXPECT_CONTAINS(error_of([&] { data_position_from_json(json); }), "data position");
    EXPECT_CONTAINS(error_of([&] { BatchSource(cache, options_of(0, 5)); }), "at least 1");
    EXPECT_CONTAINS(error_of([&] { BatchSource(cache, options_of(int64_t(1) << 62, 5)); }), "2^31");
    BatchOptions ranks = options_of(1, 5);
    ranks.rank = 1;
    EXPECT_CONTAINS(error_of([&] { BatchSource(cache, ranks); }), "rank 1 of 1");
}

TEST(EvaluationWindows, JoinedTextIsTokenizedOnceAndCutWithoutOverlap) {
    ScratchFolder folder;
    auto file = folder.write("a.txt", "ab\n\ncdefg");
    EvaluationOptions options;
    options.context = 4;
    using Windows = std::vector<std::vector<int32_t>>;
    EXPECT_EQ(evaluation_windows(file, byte_encoder(), options),
              (Windows{{bos, 'a', 'b', '\n'}, {'\n', 'c', 'd', 'e'}, {'f', 'g'}}));
    options.keep_remainder = false;
    EXPECT_EQ(evaluation_windows(file, byte_encoder(), options).size(), 2u);
    auto json = folder.write("a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"cdefg\"}\n");
    EXPECT_EQ(evaluation_windows(json, byte_encoder(), options), evaluation_windows(file, byte_encoder(), options));
}

TEST(EvaluationWindows, OverlapByAStrideAndPredictEachTokenOnce) {
    ScratchFolder folder;
    auto file = folder.write("a.txt", "abcdefgh");
    EvaluationOptions options;
    options.context = 5;
    options.stride = 2;
    EvaluationText text = evaluation_text(file, byte_encoder(), options);
    using Windows = std::vector<std::vector<int32_t>>;
    EXPECT_EQ(text.windows, (Windows{{bos, 'a', 'b', 'c', 'd'}, {'b', 'c', 'd', 'e', 'f'}, {'d', 'e', 'f', 'g', 'h'}}));
    EXPECT_EQ(text.known, (std::vector<size_t>{1, 3, 3}));
    EXPECT_EQ(text.bytes, 8u);
    EXPECT_EQ(text.tokens, 8u);
    options.stride = 3;
    text = evaluation_text(file, byte_encoder(), options);
    EXPECT_EQ(text.windows.back(), (std::vector<int32_t>{'f', 'g', 'h'}));  // of which h is new
    EXPECT_EQ(text.known.back(), 2u);
    options.stride = 6;
    EXPECT_CONTAINS(error_of([&] { evaluation_text(file, byte_encoder(), options); }), "stride");
}

TEST(EvaluationWindows, DocumentsOnTheirOwnAreCutToTheContext) {
    ScratchFolder folder;
    auto file = folder.write("a.txt", "zero|one|  |three|four");
    EvaluationOptions options;
    options.context = 4;
    options.per_document = true;
    options.separator = "|";
    options.first = 1;
    options.last = 4;
    using Windows = std::vector<std::vector<int32_t>>;
    EXPECT_EQ(evaluation_windows(file, byte_encoder(), options), (Windows{{bos, 'o', 'n', 'e'}, {bos, 't', 'h', 'r'}}));
    options.per_document = false;
    options.context = 100;
    EXPECT_EQ(evaluation_windows(file, byte_encoder(), options)[0].size(), 1 + 3 + 2 + 5u);
    options.first = options.last = 2;
    EXPECT_CONTAINS(error_of([&] { evaluation_windows(file, byte_encoder(), options); }), "nothing to predict");
    options.context = 1;
    EXPECT_CONTAINS(error_of([&] { evaluation_windows(file, byte_encoder(), options); }), "at least 2");
}

TEST(EvaluationWindows, FillABatchWithoutLossBehindThem) {
    std::vector<std::vector<int32_t>> windows{{7, 8, 9}};
    Batch batch = batch_of_windows(windows, 2, 4);
    EXPECT_EQ(batch.ids, (std::vector<int32_t>{7, 8, 9, 0, 0, 0, 0, 0}));
    EXPECT_EQ(batch.labels, (std::vector<int32_t>{8, 9, -1, -1, -1, -1, -1, -1}));
    EXPECT_EQ(batch.document_start, (std::vector<int32_t>{0, 0, 0, 3, 0, 1, 2, 3}));
    EXPECT_EQ(batch.document_end, (std::vector<int32_t>{3, 3, 3, 4, 1, 2, 3, 4}));
    EXPECT_CONTAINS(error_of([&] { batch_of_windows(windows, 1, 2); }), "does not fit");
}

TEST(Corpora, RealFilesAreReadAsTheyWereMeant) {
    std::filesystem::path data = test::data_folder();
    if (!std::filesystem::exists(data / "corpus")) GTEST_SKIP() << data << " is not there (VKQAT_DATA)";
    DocumentReader stories({data / "corpus/stories_train.jsonl.zst"}, {});
    Document document;
    size_t count = 0;
    while (stories.next(document)) ++count;
    EXPECT_EQ(count, 18285u) << "as the data's README says";
    DocumentReader tiny({data / "text/tinystoriesV2_train_first10klines.txt"}, {"<|endoftext|>"});
    count = 0;
    while (tiny.next(document)) {
        EXPECT_EQ(document.text.find("<|endoftext|>"), std::string::npos);
        ++count;
    }
    EXPECT_GT(count, 1000u);
}

}  // namespace
}  // namespace vkqat
