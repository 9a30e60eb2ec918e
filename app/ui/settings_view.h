// Appearance, and where things are kept.
#pragma once

#include "app/ui/app.h"

namespace vkqat {

class SettingsView {
public:
    explicit SettingsView(App& app) : app_(app) {}
    void draw(ImVec2 size);

private:
    App& app_;
};

}  // namespace vkqat
