// Event files byte by byte; tests/interop/check_tensorboard.py reads them with TensorBoard itself.
#include "trainer/tensorboard.h"

#include <array>
#include <bit>
#include <cstring>

#include "runtime/support/files.h"
#include "tests/support/scratch_folder.h"

namespace vkqat {
namespace {

using test::ScratchFolder;

std::string bytes(std::initializer_list<int> values) {
    std::string text;
    for (int v : values) text += char(v);
    return text;
}

TEST(Tensorboard, ChecksumIsMaskedCrc32c) {
    // RFC 3720, B.4: 32 zeros, 32 times 255; and the check value of the CRC catalogues.
    auto masked = [](uint32_t crc) { return std::rotr(crc, 15) + 0xa282ead8u; };
    EXPECT_EQ(masked_crc32c(std::string(32, '\0')), masked(0x8a9136aa));
    EXPECT_EQ(masked_crc32c(std::string(32, '\xff')), masked(0x62a8ab43));
    EXPECT_EQ(masked_crc32c("123456789"), masked(0xe3069283));
    EXPECT_EQ(masked_crc32c(""), 0xa282ead8u);
}

TEST(Tensorboard, RecordHasLengthAndTwoChecksums) {
    // Every event file of TensorFlow begins with these twelve bytes: a first record of 24 bytes.
    const std::string data(24, 'x'), record = tfrecord(data);
    ASSERT_EQ(record.size(), 24u + 16);
    EXPECT_EQ(record.substr(0, 12), bytes({0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22}));
    EXPECT_EQ(record.substr(12, 24), data);
    uint32_t stored = 0;
    std::memcpy(&stored, record.data() + 36, 4);
    EXPECT_EQ(stored, masked_crc32c(data));
}

TEST(Tensorboard, EventIsTheProtobufMessage) {
    const std::array scalars{Scalar{"a", 1.0}, Scalar{"bc", -2.5}};
    EXPECT_EQ(scalar_event(1.0, 300, scalars),
              bytes({0x09, 0,    0,    0, 0,   0,    0,    0xf0, 0x3f,        // wall_time = 1.0
                     0x10, 0xac, 0x02,                                        // step = 300
                     0x2a, 21,                                                // summary
                     0x0a, 8,    0x0a, 1, 'a', 0x15, 0,    0,    0x80, 0x3f,  // value: tag, simple_value
                     0x0a, 9,    0x0a, 2, 'b', 'c',  0x15, 0,    0,    0x20, 0xc0}));
}

TEST(Tensorboard, FileBeginsWithItsVersionAndTheFirstStep) {
    ScratchFolder folder;
    for (int run = 0; run < 2; run++) {  // a resumed run makes another file
        TensorboardFile file(folder / "tb", 7);
        file.add(7, std::array{Scalar{"loss/train", 3.5}});
        file.sync();
    }
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "tb")) files.push_back(entry.path());
    ASSERT_EQ(files.size(), 2u);
    for (const auto& path : files) {
        EXPECT_TRUE(path.filename().string().starts_with("events.out.tfevents."));
        std::string text = read_text_file(path);
        std::vector<std::string> records;
        for (size_t at = 0; at < text.size();) {
            uint64_t length = 0;
            ASSERT_LE(at + 16, text.size());
            std::memcpy(&length, text.data() + at, 8);
            ASSERT_LE(at + 16 + length, text.size());
            records.push_back(text.substr(at + 12, length));
            EXPECT_EQ(tfrecord(records.back()), text.substr(at, 16 + length));
            at += 16 + length;
        }
        ASSERT_EQ(records.size(), 3u);
        EXPECT_EQ(records[0].substr(9), bytes({0x1a, 13}) + "brain.Event:2");
        EXPECT_EQ(records[1].substr(9), bytes({0x10, 7, 0x3a, 2, 0x08, 1}));  // step 7, session_log {status: START}
        EXPECT_EQ(records[2].substr(9, 2), bytes({0x10, 7}));
    }
}

}  // namespace
}  // namespace vkqat
