// s + a . b as four multiply-adds: the scores of attention.
float dot_add(float s, vec4 a, vec4 b) {
    s += a.x * b.x;
    s += a.y * b.y;
    s += a.z * b.z;
    s += a.w * b.w;
    return s;
}
