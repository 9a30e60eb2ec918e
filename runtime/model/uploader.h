// Brings a model's bytes from mapped files to the device: pieces are copied into pinned memory by several threads while the
// device takes the ones before.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/graph/executable.h"

namespace vkqat {

class Uploader {
public:
    // The largest piece; three of them are in flight.
    Uploader(Device& device, uint64_t piece_bytes);
    ~Uploader();
    Uploader(const Uploader&) = delete;
    Uploader& operator=(const Uploader&) = delete;

    uint64_t piece_bytes() const { return piece_bytes_; }
    // Error if it does not fit.
    void copy(const Buffer& to, uint64_t offset, std::span<const std::byte> bytes);
    // Runs the graph that `build` makes of a piece in pinned memory: the spans' bytes, each from a multiple of 256 on
    // (`offsets`).
    void run(std::span<const std::span<const std::byte>> sources,
             const std::function<void(Graph&, const Buffer& piece, std::span<const uint64_t> offsets)>& build);
    void finish();  // waits for all

private:
    struct Slot {
        Buffer piece;
        uint64_t value = 0;
        std::unique_ptr<Graph> graph;
        std::unique_ptr<Executable> executable;
        VkCommandBuffer commands = VK_NULL_HANDLE;
    };
    Slot& next_slot();
    Device& device_;
    uint64_t piece_bytes_;
    VkCommandPool pool_ = VK_NULL_HANDLE;
    std::vector<Slot> slots_;
    size_t next_ = 0;
};

}  // namespace vkqat
