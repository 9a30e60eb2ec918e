# Sourced by the scripts of this folder: where things are, how they speak and fail.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
toolchain=${VKQAT_TOOLCHAIN:-$root/build/toolchain}

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail() { printf '%s: error: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# only_one_at_a_time FILE: waits until no other script holds FILE, then holds it until the script ends.
only_one_at_a_time() {
    mkdir -p "$(dirname "$1")"
    exec 9>"$1"
    flock -n 9 || { say "waiting for another run in this tree"; flock 9; }
}

# build PRESET [cmake options...]: configures and builds into the preset's folder; quiet about what was not to be done.
build() {
    local preset=$1 log=$root/build/configure.log
    shift
    (
        only_one_at_a_time "$root/build/.lock"
        cd "$root"
        cmake --preset "$preset" ${VKQAT_TOOLCHAIN:+"-DVKQAT_TOOLCHAIN=$VKQAT_TOOLCHAIN"} "$@" >"$log" 2>&1 ||
            { cat "$log" >&2; fail "CMake could not configure preset $preset (see above)"; }
        sed -n '/^-- vkqat:/,/^ *$/p' "$log"
        cmake --build --preset "$preset" 9>&- || fail "the build failed (see above)"
    )
}
