// Built with -fno-exceptions -fno-rtti, beside a unit that has both: the model answers the same,
// and an error ends in the handler with the text that is thrown there.
#include "refusals.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "compile with -fno-exceptions -fno-rtti"
#endif

namespace {

struct End {
    std::string printed;  // on standard error
    int status;           // as waitpid has it
};

// How a process ends in which this call is refused.
End end_of(int refusal, hydralm::ErrorHandler handler) {
    int ends[2];
    if (::pipe(ends) != 0) return {"no pipe", 0};
    const ::pid_t child = ::fork();
    if (child == 0) {
        ::dup2(ends[1], STDERR_FILENO);
        if (handler != nullptr) hydralm::set_error_handler(handler);
        refused(refusal);
        ::_exit(0);
    }
    ::close(ends[1]);
    End end{};
    char bytes[256];
    for (::ssize_t n = 0; (n = ::read(ends[0], bytes, sizeof bytes)) > 0;)
        end.printed.append(bytes, static_cast<std::size_t>(n));
    ::close(ends[0]);
    ::waitpid(child, &end.status, 0);
    return end;
}

void say_and_leave(const char* text) {
    std::fprintf(stderr, "handled: %s", text);
    ::_exit(7);
}
void say_and_return(const char* text) { std::fprintf(stderr, "handled: %s", text); }

int wrong = 0;

void expect(bool good, int refusal, const End& end) {
    if (good) return;
    std::printf("refusal %d: status %d, %s\n", refusal, end.status, end.printed.c_str());
    ++wrong;
}

bool aborted(const End& end) { return WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGABRT; }

}  // namespace

int main() {
    hydralm::set_num_threads(1);
    for (int i = 0; i < refusals; ++i) {
        const std::string text = text_with_exceptions(i);
        const End printed = end_of(i, nullptr);
        expect(printed.printed == text + "\n" && aborted(printed), i, printed);
        const End left = end_of(i, say_and_leave);
        expect(left.printed == "handled: " + text && WIFEXITED(left.status) &&
                   WEXITSTATUS(left.status) == 7,
               i, left);
        const End returned = end_of(i, say_and_return);
        expect(returned.printed == "handled: " + text && aborted(returned), i, returned);
    }
    if (hydralm::set_error_handler(say_and_leave) == say_and_leave ||
        hydralm::set_error_handler(say_and_return) != say_and_leave)
        expect(false, -1, {"the handler before is another", 0});
    if (answers("without.safetensors") != answers_with_exceptions())
        expect(false, -1, {"the model answers otherwise", 0});
    return wrong;
}
