// Where time and memory go: the nodes of a token or a prompt as a flame graph and a table, memory as a treemap; traces of files.
#pragma once

#include "app/core/trace.h"
#include "app/ui/app.h"

namespace vkqat {

class ProfileView {
public:
    explicit ProfileView(App& app) : app_(app) {}
    void draw(ImVec2 size);
    void measure();
    void open_trace();

private:
    void memory(float width);
    void flame(const std::vector<TraceEvent>& events, ImVec2 size);
    void table(const std::vector<TraceEvent>& events, ImVec2 size);
    void save_trace(const std::vector<TraceEvent>& events);

    App& app_;
    std::shared_ptr<const ModelProfile> shown_;
    std::vector<TraceEvent> decode_, prefill_, file_;
    std::string file_name_;
    int which_ = 0;             // decode, prefill, a file
    double from_ = 0, to_ = 0;  // of the flame graph, in seconds; equal: all
};

}  // namespace vkqat
