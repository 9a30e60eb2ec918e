// The folder of a run: held by one process at a time, and what a run that goes on in it must have in common with its checkpoint.
#pragma once

#include <filesystem>

#include "trainer/checkpoint.h"

namespace vkqat {

// Holds job.dump_folder for this process; the system lets it go when the process ends, however that happens. Error: another
// training has it.
class FolderLock {
public:
    explicit FolderLock(const std::filesystem::path& folder);
    ~FolderLock();
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

private:
    int fd_;
};

// Error: the folder holds a run and `resume` is not set, or the other way round.
void check_dump_folder(const TrainConfig& config, bool resume);

// Error naming the first difference: the checkpoint's weights are those of another model.
void check_same_model(const LlamaConfig& now, const Checkpoint& checkpoint);
bool same_quantizer(const TrainConfig& a, const TrainConfig& b);
// Error: the run is quantized already, and in another way.
void check_same_quantizer(const TrainConfig& now, const Checkpoint& checkpoint);

}  // namespace vkqat
