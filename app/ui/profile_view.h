// Where time and memory go: the nodes of a token or a prompt as a flame graph and a table, memory as a treemap; traces of files.
#pragma once

#include "app/core/background.h"
#include "app/core/trace.h"
#include "app/core/weights.h"
#include "app/ui/app.h"

namespace vkqat {

class ProfileView {
public:
    ProfileView(App& app, std::function<void()> wake) : app_(app), reading_(std::move(wake)) {}
    void draw(ImVec2 size);
    void measure();
    void open_trace();

private:
    void memory(ImVec2 size);
    void flame(const std::vector<TraceEvent>& events, ImVec2 size);
    void table(const std::vector<TraceEvent>& events, ImVec2 size);
    void save_trace(const std::vector<TraceEvent>& events);

    App& app_;
    std::shared_ptr<const ModelProfile> shown_;
    std::vector<TraceEvent> decode_, prefill_, file_;
    std::string file_name_;
    Background<std::vector<WeightPart>> reading_;
    std::vector<WeightPart> parts_;  // of the loaded model, once they are read
    std::filesystem::path parts_of_;
    bool live_ = false;
    int which_ = 0;             // decode, prefill, a file
    double from_ = 0, to_ = 0;  // of the flame graph, in seconds; equal: all
};

}  // namespace vkqat
