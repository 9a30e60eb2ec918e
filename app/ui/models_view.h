// The library: folders, models, what memory each would take, loading.
#pragma once

#include "app/ui/app.h"

namespace vkqat {

class ModelsView {
public:
    explicit ModelsView(App& app) : app_(app) {}
    void draw(ImVec2 size);
    void add_folder();

private:
    void loaded(int engine, float width);
    void row(const ModelEntry& model, float width);

    App& app_;
    std::string filter_;
};

}  // namespace vkqat
