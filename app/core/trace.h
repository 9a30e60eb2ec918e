// Profiles as Chrome/Perfetto traces, and traces as tables.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/graph/executable.h"

namespace vkqat {

struct TraceEvent {
    std::string name, track;
    double start = 0, seconds = 0, bytes = 0, flops = 0;
};

// The nodes of one run, one after another.
std::vector<TraceEvent> trace_of(const std::vector<ProfileRow>& rows, const std::string& track);
// {"traceEvents": [...]}, as ui.perfetto.dev reads it.
std::string to_chrome_trace(const std::vector<TraceEvent>& events);
// Complete ("X") events of a file of that kind; others are left out. Error naming `where` if it is none.
std::vector<TraceEvent> parse_chrome_trace(const std::string& json, const std::string& where);

// Rows of one label together, the longest first.
struct ProfileSum {
    std::string label;
    int count = 0;
    double seconds = 0, bytes = 0, flops = 0;
};
std::vector<ProfileSum> sums_by_label(const std::vector<TraceEvent>& events);
// The layer that a label names ("layers.3.attention" -> 3), or -1; and the label without it.
int layer_of(const std::string& label);
std::string without_layer(const std::string& label);

}  // namespace vkqat
