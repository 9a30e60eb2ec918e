// The questions and answers of the sample corpus: answers follow from small facts, from the question, or from the lines before
// it.
#include <algorithm>
#include <vector>

#include "trainer/sample_corpus.h"
#include "trainer/sample_grammar.h"
#include "trainer/sample_words.h"

namespace vkqat {

namespace {

struct Pair {
    const char* a;
    const char* b;
};

// Things with their verb, and their color.
constexpr Pair colors_of[] = {
    {"the sky is", "blue"},     {"grass is", "green"},  {"snow is", "white"},     {"a banana is", "yellow"},
    {"a carrot is", "orange"},  {"milk is", "white"},   {"the sun is", "yellow"}, {"the night is", "black"},
    {"a tomato is", "red"},     {"a frog is", "green"}, {"a pig is", "pink"},     {"a lemon is", "yellow"},
    {"a strawberry is", "red"}, {"the sea is", "blue"}, {"mud is", "brown"},      {"a pumpkin is", "orange"},
    {"a cloud is", "white"},    {"a bear is", "brown"}, {"a leaf is", "green"},   {"a fire truck is", "red"},
};

constexpr Pair opposites[] = {
    {"big", "small"},  {"hot", "cold"},    {"happy", "sad"},   {"fast", "slow"}, {"up", "down"},    {"day", "night"},
    {"wet", "dry"},    {"open", "closed"}, {"full", "empty"},  {"old", "new"},   {"loud", "quiet"}, {"hard", "soft"},
    {"tall", "short"}, {"light", "dark"},  {"clean", "dirty"}, {"in", "out"},    {"left", "right"}, {"good", "bad"},
    {"near", "far"},   {"first", "last"},  {"strong", "weak"},
};

struct Animal {
    const char* name;
    const char* sound;
    const char* baby;
    const char* home;
    const char* food;
    int legs;
    bool flies;
    int size;
};
constexpr Animal animals[] = {
    {"dog", "woof", "puppy", "in a house", "meat", 4, false, 4},
    {"cat", "meow", "kitten", "in a house", "fish", 4, false, 3},
    {"cow", "moo", "calf", "on a farm", "grass", 4, false, 7},
    {"duck", "quack", "duckling", "near a pond", "bread", 2, true, 3},
    {"sheep", "baa", "lamb", "on a farm", "grass", 4, false, 5},
    {"pig", "oink", "piglet", "on a farm", "corn", 4, false, 5},
    {"hen", "cluck", "chick", "on a farm", "corn", 2, false, 2},
    {"horse", "neigh", "foal", "on a farm", "grass", 4, false, 7},
    {"frog", "ribbit", "tadpole", "near a pond", "flies", 4, false, 1},
    {"lion", "roar", "cub", "in the wild", "meat", 4, false, 6},
    {"owl", "hoo", "owlet", "in a tree", "mice", 2, true, 2},
    {"bee", "buzz", "", "in a hive", "honey", 6, true, 0},
    {"mouse", "squeak", "", "in a hole", "cheese", 4, false, 1},
    {"bird", "tweet", "chick", "in a nest", "seeds", 2, true, 1},
    {"rabbit", "", "bunny", "in a hole", "carrots", 4, false, 2},
    {"fish", "", "", "in the water", "worms", 0, false, 1},
    {"bear", "growl", "cub", "in the forest", "honey", 4, false, 6},
    {"elephant", "", "calf", "in the wild", "leaves", 4, false, 8},
    {"ant", "", "", "in the ground", "seeds", 6, false, 0},
    {"snake", "hiss", "", "in the grass", "mice", 0, false, 2},
};

constexpr const char* days[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

struct Kind {
    const char* kind;
    std::vector<const char*> things;
};
const std::vector<Kind>& kinds() {
    static const std::vector<Kind> table = {
        {"a fruit", {"apple", "banana", "pear", "cherry", "lemon", "strawberry"}},
        {"an animal", {"dog", "cat", "cow", "owl", "elephant", "rabbit", "horse", "ant"}},
        {"a toy", {"ball", "doll", "kite", "toy car", "drum", "balloon"}},
        {"a color", {"red", "blue", "green", "yellow", "pink", "orange"}},
    };
    return table;
}

constexpr Pair uses[] = {
    {"a spoon", "eat soup"},
    {"a cup", "drink milk"},
    {"a pen", "write"},
    {"a bed", "sleep"},
    {"a book", "read"},
    {"a hat", "keep the head warm"},
    {"an umbrella", "stay dry in the rain"},
    {"a broom", "sweep the floor"},
    {"a key", "open a door"},
    {"a boat", "go over the water"},
    {"a drum", "make music"},
    {"a lamp", "make a room light"},
};

constexpr Pair senses[] = {{"see", "eyes"},  {"hear", "ears"},  {"smell", "nose"},
                           {"walk", "feet"}, {"clap", "hands"}, {"bite", "teeth"}};

constexpr Pair workers[] = {
    {"bakes bread", "baker"},          {"helps sick people", "doctor"}, {"grows food on a farm", "farmer"},
    {"puts out fires", "firefighter"}, {"teaches children", "teacher"}, {"drives a bus", "bus driver"},
    {"catches fish", "fisherman"},     {"cooks food", "cook"},
};

std::string turn(const std::string& question, const std::string& answer, std::mt19937_64& random) {
    Slots none;
    return expand("Question: " + capitalized(question) + "?\nAnswer: " + capitalized(answer) + ".\n", none, random);
}

// One question that stands by itself.
std::string fact(std::mt19937_64& random) {
    auto ask = [&](std::string question, std::string answer) { return turn(question, answer, random); };
    auto either = [&](const char* a, const char* b) { return std::string(pick_index(random, 2) ? a : b); };
    bool digits = pick_index(random, 2) == 0;
    auto number = [&](size_t n) { return digits ? std::to_string(n) : number_word(n); };
    switch (pick_index(random, 18)) {
        case 0:
        case 1: {
            size_t a = pick_index(random, 11), b = pick_index(random, 11);
            std::string sum = number(a) + " plus " + number(b);
            return ask(either("what is ", "how much is ") + sum, sum + " is " + number(a + b));
        }
        case 2: {
            size_t b = pick_index(random, 11), a = b + pick_index(random, 11);
            std::string difference = number(a) + " minus " + number(b);
            return ask(either("what is ", "how much is ") + difference, difference + " is " + number(a - b));
        }
        case 3: {
            size_t n = pick_index(random, 20);
            return ask("what number comes after " + number(n), number(n + 1) + " comes after " + number(n));
        }
        case 4: {
            size_t a = pick_index(random, 20), b = (a + 1 + pick_index(random, 19)) % 20;
            return ask("which is more, " + number(a) + " or " + number(b),
                       number(std::max(a, b)) + " is more than " + number(std::min(a, b)));
        }
        case 5: {
            const Pair& p = pick(random, colors_of);
            std::string thing(p.a);
            thing.resize(thing.size() - 3);  // without " is"
            return ask("what color is " + thing, thing + " is " + p.b);
        }
        case 6: {
            const Pair& p = pick(random, opposites);
            bool turned = pick_index(random, 2) == 0;
            std::string a = turned ? p.b : p.a, b = turned ? p.a : p.b;
            return ask("what is the opposite of " + a, "the opposite of " + a + " is " + b);
        }
        case 7: {
            const Animal* animal = &pick(random, animals);
            while (!animal->sound[0]) animal = &pick(random, animals);
            std::string name = animal->name, sound = animal->sound;
            if (pick_index(random, 2)) return ask("what does a~ " + name + " say", "a~ " + name + " says " + sound);
            return ask("which animal says " + sound, "a~ " + name + " says " + sound);
        }
        case 8: {
            const Animal* animal = &pick(random, animals);
            while (!animal->baby[0]) animal = &pick(random, animals);
            return ask(std::string("what is a baby ") + animal->name + " called",
                       std::string("a baby ") + animal->name + " is called a~ " + animal->baby);
        }
        case 9: {
            const Animal& animal = pick(random, animals);
            return ask(
                std::string("how many legs does a~ ") + animal.name + " have",
                std::string("a~ ") + animal.name + " has " + (animal.legs ? number_word(size_t(animal.legs)) : "no") + " legs");
        }
        case 10: {
            const Animal& animal = pick(random, animals);
            std::string name = animal.name;
            if (pick_index(random, 2)) return ask("where does a~ " + name + " live", "a~ " + name + " lives " + animal.home);
            return ask("what does a~ " + name + " eat", "a~ " + name + " eats " + animal.food);
        }
        case 11: {
            const Animal& animal = pick(random, animals);
            std::string name = animal.name;
            return ask("can a~ " + name + " fly",
                       animal.flies ? "yes, a~ " + name + " can fly" : "no, a~ " + name + " cannot fly");
        }
        case 12: {
            const Animal* a = &pick(random, animals);
            const Animal* b = &pick(random, animals);
            while (a->size == b->size) b = &pick(random, animals);
            std::string bigger = a->size > b->size ? a->name : b->name, smaller = a->size > b->size ? b->name : a->name;
            std::string both = std::string("a~ ") + a->name + " or a~ " + b->name;
            if (pick_index(random, 2)) return ask("which is bigger, " + both, "a~ " + bigger + " is bigger than a~ " + smaller);
            return ask("which is smaller, " + both, "a~ " + smaller + " is smaller than a~ " + bigger);
        }
        case 13: {
            size_t day = pick_index(random, 7);
            if (pick_index(random, 2))
                return ask(std::string("what day comes after ") + days[day],
                           std::string(days[(day + 1) % 7]) + " comes after " + days[day]);
            return ask(std::string("what day comes before ") + days[(day + 1) % 7],
                       std::string(days[day]) + " comes before " + days[(day + 1) % 7]);
        }
        case 14: {
            size_t k = pick_index(random, kinds().size()),
                   other = (k + 1 + pick_index(random, kinds().size() - 1)) % kinds().size();
            const char* name = pick(random, std::span<const char* const>(kinds()[k].things));
            std::string thing = kinds()[k].kind == std::string("a color") ? name : std::string("a~ ") + name;
            bool turned = pick_index(random, 2) == 0;
            std::string a = kinds()[turned ? other : k].kind, b = kinds()[turned ? k : other].kind;
            return ask("is " + thing + " " + a + " or " + b, thing + " is " + kinds()[k].kind);
        }
        case 15: {
            const Pair& use = pick(random, uses);
            return ask(std::string("what can you do with ") + use.a, std::string("you can ") + use.b + " with " + use.a);
        }
        case 16: {
            const Pair& sense = pick(random, senses);
            return ask(std::string("what do you ") + sense.a + " with", std::string("you ") + sense.a + " with your " + sense.b);
        }
        default: {
            const Pair& worker = pick(random, workers);
            return ask(std::string("who ") + worker.a, std::string("a~ ") + worker.b + " " + worker.a);
        }
    }
}

// Two people, two things, and questions about who has what.
std::string who_has_what(std::mt19937_64& random) {
    Slots s;
    add_people(s, random);
    add_things(s, random);
    std::string out = expand(
        "{[N] has a~ [c] [toy]. [F] has a~ [c2] [toy2].|[F] has a~ [c2] [toy2], and [n] has a~ [c] [toy].|"
        "[N] and [f] are [at]. [N] has a~ [c] [toy]. [F] has a~ [c2] [toy2].}\n",
        s, random);
    constexpr const char* turns[] = {
        "Question: Who has the [toy]?\nAnswer: [N] has the [toy].\n",
        "Question: Who has the [toy2]?\nAnswer: [F] has the [toy2].\n",
        "Question: What color is the [toy]?\nAnswer: The [toy] is [c].\n",
        "Question: What color is the [toy2]?\nAnswer: The [toy2] is [c2].\n",
        "Question: What does [n] have?\nAnswer: [N] has a~ [c] [toy].\n",
        "Question: What does [f] have?\nAnswer: [F] has a~ [c2] [toy2].\n",
        "Question: Does [n] have the [toy2]?\nAnswer: No, [f] has the [toy2].\n",
        "Question: Does [f] have the [toy2]?\nAnswer: Yes, [f] has the [toy2].\n",
    };
    size_t first = pick_index(random, std::size(turns)), count = 1 + pick_index(random, 3);
    for (size_t i = 0; i < count; ++i) out += expand(turns[(first + 3 * i) % std::size(turns)], s, random);
    return out;
}

std::string where_is_it(std::mt19937_64& random) {
    Slots s;
    add_people(s, random);
    add_things(s, random);
    std::string out = expand(
        "{[N] put [his] [c] [toy] [spot1]. The [animal] is [spot2]. |The [c] [toy] is [spot1]. The [animal] is [spot2]. |"
        "The [animal] is [spot2]. [N] looks for the [c] [toy]. It is [spot1]. }"
        "{|[N] is [at].}\n",
        s, random);
    bool toy_first = pick_index(random, 2) == 0;
    std::string toy = "Question: Where is the [toy]?\nAnswer: The [toy] is [spot1].\n";
    std::string animal = "Question: Where is the [animal]?\nAnswer: The [animal] is [spot2].\n";
    std::string both = toy_first ? toy + animal : animal + toy;
    return out + expand(pick_index(random, 2) ? both : toy_first ? toy : animal, s, random);
}

std::string how_many(std::mt19937_64& random) {
    Slots s;
    add_people(s, random);
    add_things(s, random);
    size_t a = 2 + pick_index(random, 8), b = 2 + pick_index(random, 7);
    bool gets = pick_index(random, 2) == 0;
    s["a"] = number_word(gets ? a : a + b);
    s["b"] = number_word(b);
    s["rest"] = number_word(gets ? a + b : a);
    return expand(gets ? "[N] has [a] [things]. [F] gives [him] [b] more.\n"
                       : "[N] has [a] [things]. [He] gives [b] of them to [f].\n",
                  s, random) +
           expand("Question: How many [things] does [n] have now?\nAnswer: [N] has [rest] [things] now.\n", s, random);
}

}  // namespace

std::string sample_questions(std::mt19937_64& random) {
    std::string out;
    switch (pick_index(random, 8)) {
        case 0:
        case 1: out = who_has_what(random); break;
        case 2: out = where_is_it(random); break;
        case 3: out = how_many(random); break;
        default:
            for (size_t turns = 2 + pick_index(random, 3); turns > 0; --turns) out += fact(random);
    }
    out.pop_back();
    return out;
}

}  // namespace vkqat
