#include <sqlite3.h>

/* count asks a database in memory, to have used the library. */
int count(const char *folder) {
	sqlite3 *db;
	sqlite3_stmt *q;
	int n = -1;
	if (sqlite3_open(":memory:", &db) != SQLITE_OK) return -1;
	if (sqlite3_prepare_v2(db, "select count(*) where ? like '/%'", -1, &q, 0) == SQLITE_OK) {
		sqlite3_bind_text(q, 1, folder, -1, SQLITE_TRANSIENT);
		if (sqlite3_step(q) == SQLITE_ROW) n = sqlite3_column_int(q, 0);
		sqlite3_finalize(q);
	}
	sqlite3_close(db);
	return n;
}
