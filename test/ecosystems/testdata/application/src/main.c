#include <stdio.h>
#include <string.h>

int count(const char *folder);

int main(int argc, char **argv) {
	if (argc < 2) return 2;
	if (strcmp(argv[1], "selftest") == 0) return count("/src") == 1 ? 0 : 1;
	printf("sqlite counted %d\n", count(argv[1]));
	return 0;
}
