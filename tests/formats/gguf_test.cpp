// The GGUF container and the blocks inside: sound files read back, damaged ones give an Error and nothing else.
#include "runtime/formats/gguf.h"

#include <cmath>
#include <random>

#include "runtime/formats/gguf_blocks.h"
#include "tests/formats/fixtures.h"
#include "tests/support/gguf_builder.h"

namespace vkqat {
namespace {

using test::gguf_string;
using test::GgufBuilder;
using test::le;

class Gguf : public testing::Test {
protected:
    std::string write(const std::string& bytes) {
        std::string path = (scratch_ / "a.gguf").string();
        write_file(path, bytes);
        return path;
    }
    std::string error(const std::string& bytes) {
        std::string path = write(bytes), message = error_of([&] { GgufFile file(path); });
        EXPECT_CONTAINS(message, path);
        return message;
    }
    ScratchFolder scratch_;
};

// A bit of everything.
GgufBuilder sample() {
    GgufBuilder b;
    b.key("general.architecture", "llama");
    b.key("a.u8", uint8_t(200));
    b.key("a.i8", int8_t(-5));
    b.key("a.u32", uint32_t(7));
    b.key("a.i64", int64_t(-9));
    b.key("a.u64", ~uint64_t(0));
    b.key("a.f32", 0.5f);
    b.key("a.f64", 0.25);
    b.key("a.true", true);
    b.array("a.strings", std::vector<std::string>{"one", "", "\xff\x80"});
    b.array("a.integers", std::vector<int32_t>{1, -2, 3});
    b.array("a.floats", std::vector<float>{1.5f, -2});
    // [[1, 2], []]
    b.raw("a.nested", le(uint32_t(9)) + le(uint32_t(9)) + le(uint64_t(2)) + le(uint32_t(0)) + le(uint64_t(2)) + "\1\2" +
                          le(uint32_t(8)) + le(uint64_t(0)));
    b.tensor("first", {3, 2}, 0, std::string(24, 'x'));
    b.tensor("second", {32}, 8, std::string(34, 'y'));
    b.tensor("third", {2, 2, 2}, 30, std::string(16, 'z'));
    return b;
}

TEST_F(Gguf, KeysAndTensorsReadBack) {
    GgufFile file(write(sample().file()));
    EXPECT_EQ(file.string("general.architecture"), "llama");
    EXPECT_EQ(file.count("a.u8"), 200u);
    EXPECT_EQ(file.number("a.i8"), -5);
    EXPECT_EQ(file.count("a.u32"), 7u);
    EXPECT_EQ(file.number("a.f32"), 0.5);
    EXPECT_EQ(file.number("a.f64"), 0.25);
    EXPECT_EQ(file.boolean("a.true"), true);
    EXPECT_EQ(*file.strings("a.strings"), (std::vector<std::string_view>{"one", "", "\xff\x80"}));
    EXPECT_EQ(file.integers("a.integers"), (std::vector<int64_t>{1, -2, 3}));
    EXPECT_EQ(file.numbers("a.floats"), (std::vector<double>{1.5, -2}));
    EXPECT_FALSE(file.has("a"));
    EXPECT_EQ(file.count("a"), std::nullopt);
    EXPECT_EQ(file.strings("a"), nullptr);
    ASSERT_EQ(file.tensors().size(), 3u);
    EXPECT_EQ(file.find("first")->shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(file.find("first")->bytes.size(), 24u);
    EXPECT_EQ(file.find("first")->bytes[0], std::byte('x'));
    EXPECT_EQ(file.find("second")->type->name, "q8_0");
    EXPECT_EQ(file.find("second")->bytes[33], std::byte('y'));
    EXPECT_EQ(file.find("third")->bytes[0], std::byte('z'));
    EXPECT_EQ(file.find("fourth"), nullptr);
}

TEST_F(Gguf, AnOtherAlignmentAndVersionTwo) {
    GgufBuilder b;
    b.version = 2;
    b.alignment = 8;
    b.key("general.alignment", uint32_t(8));
    b.tensor("a", {1}, 0, "abcd");
    b.tensor("b", {1}, 0, "efgh");
    GgufFile file(write(b.file()));
    EXPECT_EQ(file.find("b")->bytes[0], std::byte('e'));
}

TEST_F(Gguf, ValuesOfAnotherTypeAreErrorsThatNameTheKey) {
    GgufFile file(write(sample().file()));
    auto expect = [&](auto&& work, const char* key, const char* found) {
        std::string message = error_of(work);
        EXPECT_CONTAINS(message, key);
        EXPECT_CONTAINS(message, found);
        EXPECT_CONTAINS(message, "a.gguf");
    };
    expect([&] { file.count("a.f32"); }, "a.f32", "found float32");
    expect([&] { file.count("a.i64"); }, "a.i64", "found -9");
    expect([&] { file.count("a.u64"); }, "a.u64", "found 18446744073709551615");
    expect([&] { file.number("a.true"); }, "a.true", "found bool");
    expect([&] { file.boolean("a.u8"); }, "a.u8", "found uint8");
    expect([&] { file.string("a.strings"); }, "a.strings", "found an array of string");
    expect([&] { file.strings("a.integers"); }, "a.integers", "found an array of int32");
    expect([&] { file.strings("a.nested"); }, "a.nested", "found an array of array");
    expect([&] { file.integers("a.floats"); }, "a.floats", "found an array of float32");
    expect([&] { file.numbers("a.strings"); }, "a.strings", "found an array of string");
}

TEST_F(Gguf, EveryTruncationIsAnError) {
    std::string whole = sample().file();
    GgufFile(write(whole));
    for (size_t size = 0; size < whole.size(); ++size) {
        if (size % 7 != 0 && size + 40 < whole.size()) continue;
        EXPECT_FALSE(error(whole.substr(0, size)).empty()) << size;
    }
}

TEST_F(Gguf, DamagedBytesNeverCrash) {
    const std::string whole = sample().file();
    std::mt19937 random(1);
    size_t refused = 0;
    for (size_t at = 0; at < sample().header().size(); ++at) {
        for (uint8_t value : {uint8_t(0), uint8_t(0x7f), uint8_t(0xff), uint8_t(random())}) {
            std::string damaged = whole;
            damaged[at] = char(value);
            try {
                GgufFile file(write(damaged));
                for (const GgufTensor& tensor : file.tensors()) {
                    volatile std::byte last = tensor.bytes.back();  // inside the mapping
                    (void)last;
                }
            } catch (const Error&) {
                ++refused;
            }
        }
    }
    EXPECT_GT(refused, sample().header().size());
}

TEST_F(Gguf, BeginningsThatAreNoneAreErrors) {
    EXPECT_CONTAINS(error("GGUX" + std::string(100, '\0')), "is no GGUF file");
    GgufBuilder b;
    b.version = 1;
    EXPECT_CONTAINS(error(b.file()), "version 1");
    b.version = 4;
    EXPECT_CONTAINS(error(b.file()), "version 4");
    b.version = 0x03000000;
    EXPECT_CONTAINS(error(b.file()), "big-endian");
    EXPECT_CONTAINS(error_of([&] { GgufFile(scratch_ / "absent.gguf"); }), "cannot open");
}

TEST_F(Gguf, HugeCountsAreErrors) {
    for (uint64_t huge : {uint64_t(1) << 20, uint64_t(1) << 33, uint64_t(1) << 61, ~uint64_t(0)}) {
        EXPECT_CONTAINS(error("GGUF" + le(uint32_t(3)) + le(huge) + le(uint64_t(0)) + std::string(99, ' ')), "tensors cannot be");
        EXPECT_CONTAINS(error("GGUF" + le(uint32_t(3)) + le(uint64_t(0)) + le(huge) + std::string(99, ' ')), "keys cannot be");
        GgufBuilder key;
        key.raw("k", le(uint32_t(8)) + le(huge) + "text");  // a string of that length
        EXPECT_CONTAINS(error(key.file()), "key 'k'");
        for (uint32_t type : {0u, 6u, 8u, 9u, 12u}) {
            GgufBuilder array;
            array.raw("k", le(uint32_t(9)) + le(type) + le(huge) + std::string(64, '\0'));
            EXPECT_CONTAINS(error(array.file()), "key 'k'");
        }
        GgufBuilder shape;
        shape.tensor_at("t", {huge, huge}, 0, 0);
        EXPECT_CONTAINS(error(shape.file()), "tensor 't'");
        GgufBuilder offset;
        offset.tensor_at("t", {1}, 0, huge / 32 * 32);
        EXPECT_CONTAINS(error(offset.file()), "tensor 't'");
    }
}

TEST_F(Gguf, BadTypesAreErrors) {
    GgufBuilder key;
    key.raw("k", le(uint32_t(13)) + std::string(8, '\0'));
    EXPECT_CONTAINS(error(key.file()), "key 'k': the type 13");
    GgufBuilder array;
    array.raw("k", le(uint32_t(9)) + le(uint32_t(99)) + le(uint64_t(0)));
    EXPECT_CONTAINS(error(array.file()), "key 'k': the type 99");
    GgufBuilder boolean;
    boolean.raw("k", le(uint32_t(7)) + "\2");
    EXPECT_CONTAINS(error(boolean.file()), "key 'k': expected true (1) or false (0), found 2");
    GgufBuilder tensor;
    tensor.tensor("t", {32}, 4, std::string(64, ' '));  // a type that was removed
    EXPECT_CONTAINS(error(tensor.file()), "tensor 't': its element type 4");
    GgufBuilder row;
    row.tensor("t", {33, 32}, 8, std::string(2000, ' '));
    EXPECT_CONTAINS(error(row.file()), "tensor 't': rows of 33 elements");
}

TEST_F(Gguf, DeepNestingIsAnError) {
    std::string value = le(uint32_t(9));
    for (int i = 0; i < 100000; ++i) value += le(uint32_t(9)) + le(uint64_t(1));
    GgufBuilder b;
    b.raw("k", value + le(uint32_t(0)) + le(uint64_t(0)));
    EXPECT_CONTAINS(error(b.file()), "nested deeper than 4");
}

TEST_F(Gguf, BadNamesAreErrors) {
    for (const std::string& name :
         {std::string(), std::string("a\xff"), std::string("a\nb"), std::string("a\0b", 3), std::string(256, 'n')}) {
        GgufBuilder key;
        key.key(name, uint32_t(1));
        key.key("more", std::string(64, ' '));
        EXPECT_CONTAINS(error(key.file()), "key number 0");
        GgufBuilder tensor;
        tensor.tensor(name, {16}, 0, std::string(64, ' '));
        EXPECT_CONTAINS(error(tensor.file()), "name of tensor number 0");
    }
    GgufBuilder keys;
    keys.key("twice", uint32_t(1));
    keys.key("twice", uint32_t(1));
    EXPECT_CONTAINS(error(keys.file()), "key 'twice' stands there twice");
    GgufBuilder tensors;
    tensors.tensor("t", {1}, 0, "abcd");
    tensors.tensor("t", {1}, 0, "abcd");
    EXPECT_CONTAINS(error(tensors.file()), "tensor 't' stands there twice");
}

TEST_F(Gguf, BadPlacesAreErrors) {
    GgufBuilder odd;
    odd.data = std::string(100, ' ');
    odd.tensor_at("t", {1}, 0, 4);
    EXPECT_CONTAINS(error(odd.file()), "tensor 't': its offset 4 is no multiple of the alignment 32");
    GgufBuilder overlap;
    overlap.data = std::string(100, ' ');
    overlap.tensor_at("a", {16}, 0, 0);
    overlap.tensor_at("b", {1}, 0, 32);
    EXPECT_CONTAINS(error(overlap.file()), "tensor 'b': begins at 32, inside tensor 'a'");
    GgufBuilder outside;
    outside.data = std::string(64, ' ');
    outside.tensor_at("t", {17}, 0, 0);
    EXPECT_CONTAINS(error(outside.file()), "tensor 't': its 68 bytes at 0 lie outside");
    for (uint32_t rank : {0u, 5u, 1u << 31}) {
        GgufBuilder b;
        b.infos = gguf_string("t") + le(rank) + std::string(64, '\1');
        b.tensor_count = 1;
        EXPECT_CONTAINS(error(b.file()), "tensor 't': expected 1 to 4 dimensions");
    }
    GgufBuilder empty;
    empty.tensor_at("t", {0, 32}, 0, 0);
    EXPECT_CONTAINS(error(empty.file()), "tensor 't': dimension 0 is 0");
    for (uint32_t alignment : {0u, 3u, 48u, 1u << 31}) {
        GgufBuilder b;
        b.key("general.alignment", alignment);
        b.tensor("t", {1}, 0, "abcd");
        EXPECT_CONTAINS(error(b.file()), "general.alignment");
    }
}

// ---- Blocks. The references are written in double and from the format's description, element by element.

double half(const std::string& block, size_t at) {
    uint16_t bits;
    std::memcpy(&bits, block.data() + at, 2);
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double value = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
    return bits >> 15 ? -value : value;
}

int byte(const std::string& block, size_t at) { return uint8_t(block[at]); }

double reference(const std::string& b, uint32_t type, int i) {
    if (type == 8) return half(b, 0) * int8_t(b[size_t(2 + i)]);
    if (type == 2) return half(b, 0) * ((i < 16 ? byte(b, size_t(2 + i)) % 16 : byte(b, size_t(2 + i - 16)) / 16) - 8);
    if (type == 3) return half(b, 0) * (i < 16 ? byte(b, size_t(4 + i)) % 16 : byte(b, size_t(4 + i - 16)) / 16) + half(b, 2);
    // q6_k: the four quarters of each half of a block
    int n = i / 128 * 128, quarter = i % 128 / 32, l = i % 32;
    size_t low = size_t(n / 2 + l + (quarter == 1 || quarter == 3 ? 32 : 0)), high = size_t(128 + n / 4 + l);
    int four = quarter < 2 ? byte(b, low) & 0xF : byte(b, low) >> 4;
    int two = byte(b, high) / (quarter == 0 ? 1 : quarter == 1 ? 4 : quarter == 2 ? 16 : 64) % 4;
    return half(b, 208) * int8_t(b[size_t(192 + n / 16 + l / 16 + 2 * quarter)]) * (four + 16 * two - 32);
}

std::vector<std::byte> decoded(const GgufBlockType& type, std::span<const std::byte> blocks) {
    std::vector<std::byte> out(blocks.size() / type.bytes * size_t(type.elements) * 2);
    decode_blocks(type, blocks, out);
    return out;
}

struct BlockCase {
    uint32_t type;
    size_t bytes;
    int elements;
    std::vector<size_t> halves;  // offsets of f16 numbers
};
const BlockCase block_cases[] = {{8, 34, 32, {0}}, {2, 18, 32, {0}}, {3, 20, 32, {0, 2}}, {14, 210, 256, {208}}};

TEST(GgufBlocks, EveryTypeMeetsAReferenceInDouble) {
    std::mt19937 random(3);
    for (const BlockCase& c : block_cases) {
        const GgufBlockType* type = find_block_type(c.type);
        ASSERT_NE(type, nullptr);
        EXPECT_EQ(type->bytes, c.bytes);
        EXPECT_EQ(type->elements, c.elements);
        std::string data;
        std::vector<double> expected;
        for (int block = 0; block < 300; ++block) {
            std::string b(c.bytes, '\0');
            for (char& x : b) x = char(random());
            for (size_t at : c.halves) {  // subnormal to 2: no overflow
                uint16_t bits = uint16_t(random() & 0xbfff);
                std::memcpy(b.data() + at, &bits, 2);
                if (c.type == 14) b[at + 1] = char(b[at + 1] & 0xAF);  // times up to 128 * 32
            }
            for (int i = 0; i < c.elements; ++i) expected.push_back(reference(b, c.type, i));
            data += b;
        }
        std::vector<std::byte> out = decoded(*type, std::as_bytes(std::span(data)));
        ASSERT_EQ(out.size(), expected.size() * 2) << type->name;
        for (size_t i = 0; i < expected.size(); ++i) {
            uint16_t bits;
            std::memcpy(&bits, out.data() + 2 * i, 2);
            // f32 holds the products exactly, so there is one right answer; q4_1's sum may have been rounded to f32 before.
            if (c.type != 3) {
                ASSERT_EQ(bits, f32_to_f16(float(expected[i]))) << type->name << " element " << i;
            }
            double tolerance =
                std::max(std::abs(expected[i]) * std::ldexp(1, -11), std::ldexp(1, -25)) + (c.type == 3 ? 4e-6 : 0);
            ASSERT_LE(std::abs(double(f16_to_f32(bits)) - expected[i]), tolerance) << type->name << " element " << i;
        }
    }
}

TEST(GgufBlocks, ManyBlocksOnSeveralThreadsGiveTheSame) {
    const GgufBlockType& type = *find_block_type(2);
    std::mt19937 random(4);
    std::string data(18 * 300001, '\0');
    for (size_t i = 0; i < data.size(); ++i) data[i] = i % 18 == 1 ? '\x20' : char(random());
    std::vector<std::byte> all = decoded(type, std::as_bytes(std::span(data)));
    for (size_t block : {size_t(0), size_t(74999), size_t(75000), size_t(150000), size_t(225001), size_t(300000)}) {
        auto one = decoded(type, std::as_bytes(std::span(data)).subspan(block * 18, 18));
        EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + ptrdiff_t(block * 64))) << block;
    }
}

TEST(GgufBlocks, ValuesThatAreNotFiniteAreErrors) {
    for (uint16_t scale : {uint16_t(0x7c00), uint16_t(0x7e01), uint16_t(0xfc00), uint16_t(0x7bff)}) {  // the last: 65504 * 100
        std::string block = le(scale) + std::string(32, 100);
        EXPECT_CONTAINS(error_of([&] { decoded(*find_block_type(8), std::as_bytes(std::span(block))); }), "not finite");
    }
    std::string odd(33, ' ');
    EXPECT_CONTAINS(error_of([&] { decoded(*find_block_type(8), std::as_bytes(std::span(odd))); }), "no whole number");
    EXPECT_CONTAINS(error_of([&] { decoded(*find_block_type(12), {}); }), "q4_k cannot be decoded");
    std::vector<std::byte> short_by_one(63);
    EXPECT_CONTAINS(error_of([&] { decode_blocks(*find_block_type(8), std::as_bytes(std::span(odd)).first(0), short_by_one); }),
                    "63 bytes");
    EXPECT_EQ(find_block_type(4), nullptr);
}

}  // namespace
}  // namespace vkqat
