#include "runtime/support/hash.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace vkqat {
namespace {

std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

TEST(Checksum, IsCrc32) {
    EXPECT_EQ(checksum(as_bytes("123456789")), 0xcbf43926u);  // the check value in the catalogues of CRCs
    EXPECT_EQ(checksum({}), 0u);
}

TEST(Checksum, ContinuesOverPieces) {
    uint32_t whole = checksum(as_bytes("The whole tensor"));
    EXPECT_EQ(checksum(as_bytes("tensor"), checksum(as_bytes("The whole "))), whole);
    EXPECT_EQ(checksum({}, whole), whole);
}

TEST(Checksum, NoticesEverySingleBit) {
    std::vector<std::byte> data(257, std::byte{0x5a});
    uint32_t whole = checksum(data);
    for (size_t i = 0; i < data.size() * 8; ++i) {
        data[i / 8] ^= std::byte(1 << i % 8);
        EXPECT_NE(checksum(data), whole) << i;
        data[i / 8] ^= std::byte(1 << i % 8);
    }
}

}  // namespace
}  // namespace vkqat
