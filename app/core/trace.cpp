#include "app/core/trace.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

using nlohmann::ordered_json;

// Where the layer's number stands in a label: the first run of digits between separators, behind "layer" or "layers".
bool find_layer(const std::string& label, size_t& begin, size_t& end) {
    const size_t word = label.find("layer");
    if (word == label.npos) return false;
    begin = label.find_first_of("0123456789", word);
    if (begin == label.npos || begin > word + 8) return false;
    end = label.find_first_not_of("0123456789", begin);
    if (end == label.npos) end = label.size();
    return end - begin <= 6;
}

}  // namespace

int layer_of(const std::string& label) {
    size_t begin, end;
    return find_layer(label, begin, end) ? std::atoi(label.substr(begin, end - begin).c_str()) : -1;
}

std::string without_layer(const std::string& label) {
    size_t begin, end;
    if (!find_layer(label, begin, end)) return label;
    while (end < label.size() && (label[end] == '.' || label[end] == ' ' || label[end] == ':')) end++;
    return label.substr(end);
}

std::vector<TraceEvent> trace_of(const std::vector<ProfileRow>& rows, const std::string& track) {
    std::vector<TraceEvent> events;
    double at = 0;
    for (const ProfileRow& row : rows) {
        events.push_back({row.label, track, at, row.seconds, row.bytes, row.flops});
        at += row.seconds;
    }
    return events;
}

std::string to_chrome_trace(const std::vector<TraceEvent>& events) {
    ordered_json list = ordered_json::array();
    std::map<std::string, int> tracks;
    for (const TraceEvent& e : events) tracks.try_emplace(e.track, int(tracks.size()) + 1);
    for (const auto& [name, number] : tracks)
        list.push_back({{"name", "thread_name"}, {"ph", "M"}, {"pid", 1}, {"tid", number}, {"args", {{"name", name}}}});
    for (const TraceEvent& e : events)
        list.push_back({{"name", e.name},
                        {"ph", "X"},
                        {"pid", 1},
                        {"tid", tracks[e.track]},
                        {"ts", e.start * 1e6},
                        {"dur", e.seconds * 1e6},
                        {"args",
                         {{"bytes", e.bytes},
                          {"flops", e.flops},
                          {"GB/s", e.seconds > 0 ? e.bytes / e.seconds * 1e-9 : 0},
                          {"TFLOP/s", e.seconds > 0 ? e.flops / e.seconds * 1e-12 : 0}}}});
    return ordered_json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(list)}}.dump(
               0, ' ', false, ordered_json::error_handler_t::replace) +
           "\n";
}

std::vector<TraceEvent> parse_chrome_trace(const std::string& text, const std::string& where) {
    std::vector<TraceEvent> events;
    try {
        const auto j = nlohmann::json::parse(text, [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
            if (depth > 64) fail("nested too deeply");
            return true;
        });
        const nlohmann::json& list = j.is_object() ? j.at("traceEvents") : j;
        if (!list.is_array()) fail("has no list of traceEvents");
        std::map<std::pair<double, double>, std::string> tracks;
        auto id = [](const nlohmann::json& e, const char* key) {
            return e.contains(key) && e[key].is_number() ? e[key].get<double>() : 0.0;
        };
        for (const auto& e : list)
            if (e.is_object() && e.value("ph", "") == "M" && e.value("name", "") == "thread_name" && e.contains("args") &&
                e["args"].is_object())
                tracks[{id(e, "pid"), id(e, "tid")}] = e["args"].value("name", "");
        double first = INFINITY;
        for (const auto& e : list) {
            if (!e.is_object() || e.value("ph", "") != "X") continue;
            TraceEvent event;
            event.name = e.value("name", "");
            event.start = id(e, "ts") * 1e-6;
            event.seconds = std::max(0.0, id(e, "dur") * 1e-6);
            auto track = tracks.find({id(e, "pid"), id(e, "tid")});
            event.track = track == tracks.end() ? fmt::format("{:g}/{:g}", id(e, "pid"), id(e, "tid")) : track->second;
            if (e.contains("args") && e["args"].is_object()) {
                event.bytes = id(e["args"], "bytes");
                event.flops = id(e["args"], "flops");
            }
            first = std::min(first, event.start);
            events.push_back(std::move(event));
        }
        for (TraceEvent& event : events) event.start -= first;
    } catch (const nlohmann::json::exception& e) {
        fail("{}: {}", where, e.what());
    } catch (const Error& e) {
        fail("{}: {}", where, e.what());
    }
    if (events.empty()) fail("{}: holds no events with a duration", where);
    return events;
}

std::vector<ProfileSum> sums_by_label(const std::vector<TraceEvent>& events) {
    std::map<std::string, ProfileSum> sums;
    for (const TraceEvent& e : events) {
        ProfileSum& sum = sums[without_layer(e.name)];
        sum.label = without_layer(e.name);
        sum.count++;
        sum.seconds += e.seconds, sum.bytes += e.bytes, sum.flops += e.flops;
    }
    std::vector<ProfileSum> list;
    for (auto& [label, sum] : sums) list.push_back(std::move(sum));
    std::sort(list.begin(), list.end(), [](const ProfileSum& a, const ProfileSum& b) {
        return std::tuple(-a.seconds, a.label) < std::tuple(-b.seconds, b.label);
    });
    return list;
}

}  // namespace vkqat
