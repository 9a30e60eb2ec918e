#include "app/core/appearance.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

namespace vkqat {
namespace {

std::string output_of(const char* command) {
    std::string text;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command, "re"), ::pclose);
    std::array<char, 256> buffer;
    while (pipe && text.size() < 4096 && std::fgets(buffer.data(), int(buffer.size()), pipe.get())) text += buffer.data();
    return text;
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

}  // namespace

bool system_prefers_dark() {
    if (const char* theme = std::getenv("GTK_THEME")) return has(theme, "dark");
    if (!std::getenv("DBUS_SESSION_BUS_ADDRESS")) return true;
    const std::string portal = output_of(
        "timeout 2 gdbus call --session --dest org.freedesktop.portal.Desktop --object-path /org/freedesktop/portal/desktop "
        "--method org.freedesktop.portal.Settings.Read org.freedesktop.appearance color-scheme 2>/dev/null");
    if (has(portal, "uint32 1")) return true;
    if (has(portal, "uint32 2")) return false;
    const std::string gnome = output_of("timeout 2 gsettings get org.gnome.desktop.interface color-scheme 2>/dev/null");
    if (has(gnome, "dark")) return true;
    const std::string gtk = output_of("timeout 2 gsettings get org.gnome.desktop.interface gtk-theme 2>/dev/null");
    if (!gtk.empty()) return has(gtk, "dark") || has(gtk, "Dark");
    return portal.empty() && gnome.empty();
}

}  // namespace vkqat
