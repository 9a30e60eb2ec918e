// What the desktop prefers.
#pragma once

namespace vkqat {

// Whether the desktop asks for dark windows: its settings portal, else GNOME's and GTK's settings; dark where none says anything.
// Asks other programs, which may take a second: not on the interface's thread.
bool system_prefers_dark();

}  // namespace vkqat
