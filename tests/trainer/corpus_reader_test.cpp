#include "trainer/corpus_reader.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <vector>

#include "tests/support/scratch_folder.h"
#include "trainer/byte_source.h"

namespace vkqat {
namespace {

using test::error_of;
using test::ScratchFolder;

std::vector<std::string> texts(const std::vector<std::filesystem::path>& files, const CorpusOptions& options = {}) {
    DocumentReader reader(files, options);
    std::vector<std::string> all;
    Document document;
    while (reader.next(document)) all.push_back(document.text);
    return all;
}

std::string zstd_frame(const std::string& text) {
    std::string out(ZSTD_compressBound(text.size()), 0);
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
}

std::string gzip_member(const std::string& text) {
    z_stream z{};
    deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    std::string out(deflateBound(&z, text.size()) + 32, 0);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    z.avail_in = unsigned(text.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = unsigned(out.size());
    deflate(&z, Z_FINISH);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
}

using Texts = std::vector<std::string>;

TEST(CorpusReader, BlankLinesSeparateDocumentsOfPlainText) {
    ScratchFolder folder;
    auto file = folder.write("a.txt", "\n\n one\ntwo\n\n\n \t\nthree\r\n\r\nfour");
    EXPECT_EQ(texts({file}), (Texts{"one\ntwo", "three", "four"}));
}

TEST(CorpusReader, ANamedSeparatorMayStandAnywhereAndKeepsBlankLines) {
    ScratchFolder folder;
    auto file = folder.write("a.txt", "one\n\nmore<|end|>  <|end|>two<|end|>\nthree\n<|end|>\n");
    DocumentReader reader({file}, {"<|end|>"});
    Document d;
    ASSERT_TRUE(reader.next(d));
    EXPECT_EQ(d.text, "one\n\nmore");
    EXPECT_EQ(d.number, 1u);
    ASSERT_TRUE(reader.next(d));
    EXPECT_EQ(d.text, "two");
    EXPECT_EQ(d.number, 3u) << "the empty document counts";
    EXPECT_EQ(reader.where(d), file.string() + ": document 3");
    ASSERT_TRUE(reader.next(d));
    EXPECT_EQ(d.text, "three");
    EXPECT_FALSE(reader.next(d));
    EXPECT_FALSE(reader.next(d)) << "the end stays the end";
}

TEST(CorpusReader, SeparatorsAcrossReadBoundariesAreFound) {
    ScratchFolder folder;
    // Pieces are read in chunks of 2^18 bytes; documents of every length around that put a separator across each boundary.
    Texts expected;
    std::string text;
    for (size_t i = 0; i < 12; ++i) {
        expected.push_back(std::string((size_t(1) << 18) - 9 + i, char('a' + i)));
        text += expected.back() + "<|end|>";
    }
    EXPECT_EQ(texts({folder.write("a.txt", text)}, {"<|end|>"}), expected);
}

TEST(CorpusReader, JsonLinesGiveTheirText) {
    ScratchFolder folder;
    auto file = folder.write("a.jsonl",
                             "{\"text\": \"one\\n\\u00e4\\u0000\", \"src\": {\"text\": \"inner\"}}\n\n"
                             "{\"n\": [1, {\"text\": 2}], \"text\": \" two \"}\r\n{\"text\": \"\"}\n{\"text\":\"three\"}");
    EXPECT_EQ(texts({file}), (Texts{std::string("one\n\xc3\xa4\0", 7 - 0).substr(0, 7), " two ", "three"}));
}

TEST(CorpusReader, BadJsonNamesFileAndLine) {
    ScratchFolder folder;
    struct Case {
        std::string line, expected;
    };
    const Case cases[] = {
        {"{\"text\": \"cut off", "no valid JSON"},
        {"{\"text\": \"x\"} more", "no valid JSON"},
        {"{\"text\": \"\xff\"}", "no valid JSON"},
        {"[\"text\"]", "found an array"},
        {"\"text\"", "found a string"},
        {"{\"text\": 7}", "found a number as \"text\""},
        {"{\"text\": [\"x\"]}", "found an array as \"text\""},
        {"{\"messages\": [], \"a\": 1}", "found the keys \"messages\", \"a\""},
        {"{}", "found the keys (none)"},
        {std::string(100000, '['), "found an array"},
        {"{\"a\":" + std::string(100000, '['), "nested more than 64 deep"},
    };
    for (const Case& c : cases) {
        auto file = folder.write("bad.jsonl", "{\"text\": \"good\"}\n" + c.line + "\n");
        std::string message = error_of([&] { texts({file}); });
        EXPECT_CONTAINS(message, file.string() + ":2: ");
        EXPECT_CONTAINS(message, c.expected);
        EXPECT_LT(message.size(), file.string().size() + 400) << "hostile lines do not fill the message";
    }
}

TEST(CorpusReader, BytesOfPlainTextPassThroughUnchanged) {
    ScratchFolder folder;
    std::string bytes;
    for (int i = 0; i < 256; ++i) bytes += char(i);
    bytes = "<" + bytes + ">";  // so that nothing is stripped
    EXPECT_EQ(texts({folder.write("a.txt", bytes)}, {"SEPARATOR"}), Texts{bytes});
}

TEST(CorpusReader, CompressedFilesOfSeveralFramesAreRead) {
    ScratchFolder folder;
    std::string first = "{\"text\": \"one\"}\n{\"text\": \"t", second = "wo\"}\n";
    auto gz = folder.write("a.jsonl.gz", gzip_member(first) + gzip_member(second));
    auto zst = folder.write("b.jsonl.zst", zstd_frame(first) + zstd_frame(second));
    EXPECT_EQ(texts({gz, zst}), (Texts{"one", "two", "one", "two"}));
}

TEST(CorpusReader, DamagedCompressionIsAnErrorThatNamesTheFile) {
    ScratchFolder folder;
    std::string text;
    for (int i = 0; i < 20000; ++i) text += std::to_string(i * 7919) + "\n";
    for (const auto& [name, packed] : {std::pair{"a.txt.gz", gzip_member(text)}, std::pair{"a.txt.zst", zstd_frame(text)}}) {
        for (size_t keep : {size_t(1), size_t(3), packed.size() / 2, packed.size() - 1}) {
            auto file = folder.write(name, packed.substr(0, keep));
            EXPECT_CONTAINS(error_of([&] { texts({file}); }), file.string());
        }
        std::string flipped = packed;
        for (size_t i = 0; i < 16; ++i) flipped[flipped.size() / 2 + i] = char(~flipped[flipped.size() / 2 + i]);
        auto file = folder.write(name, flipped);
        EXPECT_CONTAINS(error_of([&] {
                            read_corpus_text(file);
                            texts({file});
                        }),
                        file.string())
            << name;
        file = folder.write(name, text);
        EXPECT_CONTAINS(error_of([&] { texts({file}); }), file.string()) << name << " is plain text";
    }
}

TEST(CorpusReader, ADecompressionBombStopsAtTheLimit) {
    ScratchFolder folder;
    auto bomb = folder.write("bomb.jsonl.zst", zstd_frame("{\"text\": \"ok\"}\n{\"text\": \"" + std::string(64 << 20, 'a')));
    ASSERT_LT(std::filesystem::file_size(bomb), 100000u);
    CorpusOptions options;
    options.max_document_bytes = 1 << 20;
    std::string message = error_of([&] { texts({bomb}, options); });
    EXPECT_CONTAINS(message, bomb.string() + ":2: the line is longer than 1048576 bytes");
    options.separator = "<|end|>";
    auto text = folder.write("bomb.txt.zst", zstd_frame(std::string(64 << 20, 'a')));
    EXPECT_CONTAINS(error_of([&] { texts({text}, options); }), "<|end|>");
    options.separator = "";
    std::string lines;
    for (int i = 0; i < 400000; ++i) lines += "a line\n";
    auto endless = folder.write("lines.txt.zst", zstd_frame(lines));
    EXPECT_CONTAINS(error_of([&] { texts({endless}, options); }), "document 1 is longer");
    EXPECT_CONTAINS(error_of([&] { read_corpus_text(endless, 1000); }), endless.string());
}

TEST(CorpusReader, APathIsAFileADirectoryOrAGlob) {
    ScratchFolder folder;
    for (const char* name : {"b.txt", "a.jsonl", "c.txt.gz", "d.ndjson.zst", "README.md", "e.csv"}) folder.write(name, "x");
    std::filesystem::create_directory(folder / "sub.txt");
    auto names = [](const std::vector<std::filesystem::path>& files) {
        Texts out;
        for (const auto& file : files) out.push_back(file.filename().string());
        return out;
    };
    EXPECT_EQ(names(corpus_files((folder / "README.md").string())), Texts{"README.md"}) << "a named file is taken as plain text";
    EXPECT_EQ(names(corpus_files(folder.path().string())), (Texts{"a.jsonl", "b.txt", "c.txt.gz", "d.ndjson.zst"}));
    EXPECT_EQ(names(corpus_files((folder / "*.txt").string())), Texts{"b.txt"});
    EXPECT_EQ(names(corpus_files(Texts{(folder / "[bc].txt*").string(), (folder / "a.jsonl").string()})),
              (Texts{"b.txt", "c.txt.gz", "a.jsonl"}));
    EXPECT_CONTAINS(error_of([&] { corpus_files((folder / "none*").string()); }), "none*");
    EXPECT_CONTAINS(error_of([&] { corpus_files((folder / "sub.txt").string()); }), "holds no corpus file");
    EXPECT_CONTAINS(error_of([&] { corpus_files(""); }), "empty");
    EXPECT_CONTAINS(error_of([&] { corpus_files(Texts{}); }), "no data set");
}

TEST(CorpusReader, AByteOrderMarkIsNoText) {
    ScratchFolder folder;
    EXPECT_EQ(texts({folder.write("a.jsonl", "\xef\xbb\xbf{\"text\": \"x\"}\n")}), Texts{"x"});
}

}  // namespace
}  // namespace vkqat
