// Memory against quality: a folder of results as a plot with its Pareto front, a table, and the layers of the chosen model.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "app/core/background.h"
#include "app/core/results.h"
#include "app/core/weights.h"
#include "app/ui/app.h"
#include "app/ui/plot_view.h"

namespace vkqat {

class QualityView {
public:
    QualityView(App& app, std::function<void()> wake) : app_(app), wake_(wake), reading_(std::move(wake)) {}
    ~QualityView();
    void draw(ImVec2 size);
    void open_folder();

private:
    void load(const std::string& folder);  // on a thread
    void controls();
    void scatter(const std::vector<const ModelResult*>& shown, ImVec2 size);
    void table(const std::vector<const ModelResult*>& shown, ImVec2 size);
    void details(ImVec2 size);
    void layers(const ModelResult& r);
    void histogram();
    void ask_weights(const std::string& tensor);
    bool figure_picker(const char* label, std::string& figure, float width);
    std::vector<const ModelResult*> filtered() const;

    App& app_;
    std::function<void()> wake_;
    std::thread thread_;
    std::mutex mutex_;
    std::unique_ptr<Results> loaded_;  // by the thread, to be taken
    std::string load_error_, folder_, x_ = "bytes", y_ = "perplexity";
    std::atomic<bool> loading_ = false;
    Results results_;
    std::set<std::string> hidden_methods_, hidden_sizes_;
    std::string chosen_;  // a model's name
    bool log_x_ = true, log_y_ = false, lines_ = true, equal_memory_ = false;
    PlotScene last_scene_;
    ImVec2 plot_at_;
    struct Weights {
        std::vector<WeightPart> parts;
        std::string tensor;
        WeightSpread histogram;
    };
    Weights weights_;  // of the chosen model
    std::filesystem::path weights_of_;
    Background<Weights> reading_;
};

}  // namespace vkqat
