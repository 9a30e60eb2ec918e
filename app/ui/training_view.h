// Training runs, watched through their folders, and one started from a configuration.
#pragma once

#include <set>

#include "app/core/runs.h"
#include "app/ui/app.h"
#include "app/ui/plot_view.h"

namespace vkqat {

class TrainingView {
public:
    explicit TrainingView(App& app) : app_(app) {}
    void draw(ImVec2 size);
    bool watching() const { return !runs_.empty() || process_.log.has_filename(); }
    bool reading() const { return more_; }
    void add_folder();
    void start();

private:
    void refresh();
    void run_list(float width);
    void curve(Curve which, ImVec2 size);

    App& app_;
    std::vector<Run> runs_;
    std::set<std::string> hidden_;
    std::vector<std::string> folders_;  // that runs_ was made of
    double looked_ = -1, searched_ = -1e9;
    bool more_ = false;  // something is left to be read
    float smoothing_ = 0;
    bool log_x_ = false, log_y_ = false;
    TrainProcess process_;
    bool was_running_ = false;
    std::string log_end_, overrides_;
};

}  // namespace vkqat
