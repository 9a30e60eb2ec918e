#include "trainer/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "runtime/support/error.h"

namespace vkqat {
namespace fs = std::filesystem;
namespace {

constexpr std::array<uint32_t, 256> crc32c_table = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        table[i] = c;
    }
    return table;
}();

template <class T>
std::string little_endian(T value) {
    static_assert(std::endian::native == std::endian::little);
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

// Protobuf's wire format: a key (field number and kind), then the value.
enum Kind { varint = 0, fixed64 = 1, length_delimited = 2, fixed32 = 5 };

std::string varint_bytes(uint64_t value) {
    std::string bytes;
    for (; value >= 128; value >>= 7) bytes += char(value | 128);
    return bytes + char(value);
}
std::string key(unsigned field, Kind kind) { return varint_bytes(field << 3 | unsigned(kind)); }
std::string field(unsigned number, uint64_t value) { return key(number, varint) + varint_bytes(value); }
std::string field(unsigned number, double value) { return key(number, fixed64) + little_endian(value); }
std::string field(unsigned number, float value) { return key(number, fixed32) + little_endian(value); }
std::string field(unsigned number, std::string_view bytes) {
    return key(number, length_delimited) + varint_bytes(bytes.size()) + std::string(bytes);
}

// The numbers of fields in event.proto and summary.proto.
namespace event {
constexpr unsigned wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7;
}
namespace summary {
constexpr unsigned value = 1, value_tag = 1, value_simple_value = 2;
}
namespace session_log {
constexpr unsigned status = 1;
constexpr uint64_t start = 1;
}  // namespace session_log

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

fs::path new_file_in(const fs::path& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail("{}: cannot create the folder for TensorBoard: {}", folder.string(), error.message());
    char host[256] = "host";
    ::gethostname(host, sizeof host - 1);
    // TensorBoard reads the files of a folder in the order of their names.
    for (int64_t number = 0;; number++) {
        fs::path path = folder / fmt::format("events.out.tfevents.{:010}.{}.{}.{:03}", int64_t(now()), host, ::getpid(), number);
        if (!fs::exists(path)) return path;
    }
}

}  // namespace

uint32_t masked_crc32c(std::string_view bytes) {
    uint32_t crc = ~0u;
    for (char c : bytes) crc = crc >> 8 ^ crc32c_table[(crc ^ uint8_t(c)) & 255];
    return std::rotr(~crc, 15) + 0xa282ead8u;
}

std::string tfrecord(std::string_view data) {
    const std::string length = little_endian(uint64_t(data.size()));
    return length + little_endian(masked_crc32c(length)) + std::string(data) + little_endian(masked_crc32c(data));
}

std::string scalar_event(double wall_time, int64_t step, std::span<const Scalar> scalars) {
    std::string values;
    for (const Scalar& s : scalars)
        values += field(summary::value, field(summary::value_tag, s.tag) + field(summary::value_simple_value, float(s.value)));
    return field(event::wall_time, wall_time) + field(event::step, uint64_t(step)) + field(event::summary, values);
}

TensorboardFile::TensorboardFile(const fs::path& folder, int64_t first_step) : file_(new_file_in(folder)) {
    file_.write(tfrecord(field(event::wall_time, now()) + field(event::file_version, "brain.Event:2")));
    file_.write(tfrecord(field(event::wall_time, now()) + field(event::step, uint64_t(first_step)) +
                         field(event::session_log, field(session_log::status, session_log::start))));
}

void TensorboardFile::add(int64_t step, std::span<const Scalar> scalars) {
    file_.write(tfrecord(scalar_event(now(), step, scalars)));
}

}  // namespace vkqat
