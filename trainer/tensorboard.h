// Scalars for TensorBoard: an event file is a row of TFRecords (length, masked CRC-32C of it, data, masked CRC-32C of that), each
// of which holds a protobuf message Event (tensorflow/core/util/event.proto). The few fields that scalars need are written here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "trainer/append_file.h"

namespace vkqat {

struct Scalar {
    std::string_view tag;  // "loss/train": TensorBoard groups by what stands before the slash
    double value = 0;      // stored as float
};

// CRC-32C (Castagnoli), rotated and shifted as in TFRecord files, so that a CRC of data with CRCs in it stays a good check.
uint32_t masked_crc32c(std::string_view bytes);
std::string tfrecord(std::string_view data);
// The Event message of some scalars. wall_time: seconds since 1970.
std::string scalar_event(double wall_time, int64_t step, std::span<const Scalar> scalars);

class TensorboardFile {
public:
    // A new file in `folder`, which is made where it is missing. TensorBoard forgets what earlier files of the folder say of
    // steps from `first_step` on: after a resume they are done again.
    TensorboardFile(const std::filesystem::path& folder, int64_t first_step);
    void add(int64_t step, std::span<const Scalar> scalars);
    void sync() { file_.sync(); }

private:
    AppendFile file_;
};

}  // namespace vkqat
