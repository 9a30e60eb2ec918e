// Drops files on a window as a file manager does: the source's side of the XDND protocol, version 5
// (https://www.freedesktop.org/wiki/Specifications/XDND/).
//   drop_files X Y FILE...   on the window of $DISPLAY that takes drops; ends with 0 once that window says that it has them
#include <X11/Xatom.h>
#include <X11/Xlib.h>
#include <poll.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

Display* display;

Atom atom(const char* name) { return XInternAtom(display, name, False); }

// The first window below this one with the property XdndAware.
Window aware(Window window) {
    Atom type = 0;
    int format = 0;
    unsigned long count = 0, after = 0;
    unsigned char* data = nullptr;
    XGetWindowProperty(display, window, atom("XdndAware"), 0, 1, False, AnyPropertyType, &type, &format, &count, &after, &data);
    if (data) XFree(data);
    if (type) return window;
    Window root = 0, parent = 0, *children = nullptr, found = 0;
    unsigned number = 0;
    XQueryTree(display, window, &root, &parent, &children, &number);
    for (unsigned i = 0; i < number && !found; i++) found = aware(children[i]);
    if (children) XFree(children);
    return found;
}

void send(Window to, const char* type, long source, long a, long b, long c, long d) {
    XEvent event{};
    event.xclient.type = ClientMessage;
    event.xclient.window = to;
    event.xclient.message_type = atom(type);
    event.xclient.format = 32;
    const long data[] = {source, a, b, c, d};
    for (int i = 0; i < 5; i++) event.xclient.data.l[i] = data[i];
    XSendEvent(display, to, False, NoEventMask, &event);
    XFlush(display);
}

std::string uri(const std::string& path) {
    std::string text = "file://";
    for (const char c : path) {
        char code[8];
        std::snprintf(code, sizeof code, "%%%02X", unsigned(static_cast<unsigned char>(c)));
        text += std::isalnum(static_cast<unsigned char>(c)) || std::string("/-_.~").find(c) != std::string::npos
                    ? std::string(1, c)
                    : code;
    }
    return text + "\r\n";
}

bool next(XEvent& event, int ms) {
    pollfd socket{ConnectionNumber(display), POLLIN, 0};
    if (!XPending(display) && ::poll(&socket, 1, ms) <= 0) return false;
    return XPending(display) && XNextEvent(display, &event) == 0;
}

}  // namespace

int main(int argc, char** argv) {
    display = XOpenDisplay(nullptr);
    if (!display || argc < 4) return 2;
    std::string list;
    for (int i = 3; i < argc; i++) list += uri(argv[i]);
    const Window root = DefaultRootWindow(display), target = aware(root),
                 source = XCreateSimpleWindow(display, root, 0, 0, 1, 1, 0, 0, 0);
    if (!target) return 3;
    const Atom selection = atom("XdndSelection"), uris = atom("text/uri-list"), copy = atom("XdndActionCopy");
    XSetSelectionOwner(display, selection, source, CurrentTime);
    send(target, "XdndEnter", long(source), 5L << 24, long(uris), 0, 0);
    send(target, "XdndPosition", long(source), 0, std::atol(argv[1]) << 16 | std::atol(argv[2]), CurrentTime, long(copy));
    for (XEvent event; next(event, 10'000);) {
        if (event.type == SelectionRequest) {
            const XSelectionRequestEvent& asked = event.xselectionrequest;
            XChangeProperty(display, asked.requestor, asked.property, asked.target, 8, PropModeReplace,
                            reinterpret_cast<const unsigned char*>(list.data()), int(list.size()));
            XEvent answer{};
            answer.xselection.type = SelectionNotify;
            answer.xselection.requestor = asked.requestor;
            answer.xselection.selection = asked.selection;
            answer.xselection.target = asked.target;
            answer.xselection.property = asked.property;
            answer.xselection.time = asked.time;
            XSendEvent(display, asked.requestor, False, NoEventMask, &answer);
            XFlush(display);
        } else if (event.type == ClientMessage && event.xclient.message_type == atom("XdndStatus")) {
            if (!(event.xclient.data.l[1] & 1)) return 4;  // refused
            send(target, "XdndDrop", long(source), 0, CurrentTime, 0, 0);
        } else if (event.type == ClientMessage && event.xclient.message_type == atom("XdndFinished")) {
            return 0;
        }
    }
    return 5;
}
