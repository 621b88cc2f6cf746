// The whole test framework: CHECK prints both what was expected and where; finish() is main's exit status.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

namespace check {

inline int failures = 0;
inline int checks = 0;

template <class... Parts>
void require(bool condition, const char* text, const char* file, int line, const Parts&... parts) {
  ++checks;
  if (condition) return;
  std::ostringstream message;
  message.precision(9);
  ((message << parts << ' '), ...);
  if (++failures <= 20) std::fprintf(stderr, "%s:%d: %s failed: %s\n", file, line, text, message.str().c_str());
}

inline int finish(const char* name) {
  std::printf("%s: %d checks, %d failed\n", name, checks, failures);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace check

#define CHECK(condition, ...) check::require((condition), #condition, __FILE__, __LINE__, ##__VA_ARGS__)
