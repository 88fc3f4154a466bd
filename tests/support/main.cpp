// The entry point every test program shares; compiled once.
#define CATCH_CONFIG_RUNNER  // Catch2 2 places its implementation here; Catch2 3 ignores it
#include "support/catch.hpp"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
