#include "trainer/trace.h"

#include <nlohmann/json.hpp>

#include "runtime/support/error.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

void Trace::gpu(const std::string& recording, std::span<const ProfileRow> rows) {
    if (!active_) return;
    double seconds = 0, bytes = 0, flops = 0;
    for (const ProfileRow& row : rows) seconds += row.seconds;
    const double begin = microseconds(Clock::now()) - seconds * 1e6;
    double at = begin;
    for (const ProfileRow& row : rows) {
        events_.push_back({Track::gpu_nodes, row.label, at, row.seconds * 1e6, row.bytes, row.flops});
        at += row.seconds * 1e6;
        bytes += row.bytes;
        flops += row.flops;
    }
    events_.push_back({Track::gpu_recordings, recording, begin, seconds * 1e6, bytes, flops});
}

void Trace::end(const fs::path& file, const std::string& title) {
    active_ = false;
    constexpr int process = 1;
    ordered_json list = ordered_json::array();
    auto name = [&](const char* what, int track, const std::string& text) {
        list.push_back({{"name", what}, {"ph", "M"}, {"pid", process}, {"tid", track}, {"args", {{"name", text}}}});
    };
    name("process_name", 0, title);
    name("thread_name", int(Track::cpu), "CPU");
    name("thread_name", int(Track::gpu_recordings), "GPU: recordings");
    name("thread_name", int(Track::gpu_nodes), "GPU: nodes (one at a time)");
    for (const Event& e : events_) {
        ordered_json event = {{"name", e.name},      {"ph", "X"},     {"pid", process},
                              {"tid", int(e.track)}, {"ts", e.start}, {"dur", e.duration}};
        if (e.bytes > 0 || e.flops > 0) {
            ordered_json& args = event["args"];
            args = {{"bytes", e.bytes}, {"flops", e.flops}};
            if (e.duration > 0) {
                args["GB/s"] = e.bytes / e.duration * 1e-3;
                args["TFLOP/s"] = e.flops / e.duration * 1e-6;
            }
        }
        list.push_back(std::move(event));
    }
    std::error_code error;
    fs::create_directories(file.parent_path(), error);
    if (error) fail("{}: cannot create the folder for traces: {}", file.parent_path().string(), error.message());
    write_text_file(file, ordered_json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(list)}}.dump(
                              -1, ' ', false, ordered_json::error_handler_t::replace) +
                              "\n");
}

}  // namespace vkqat
