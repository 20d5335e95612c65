# SPDX-License-Identifier: Apache-2.0
# Makes a session for bash of a document: line N of it is line N of the session, so that bash names
# the document's lines. For tests/docs.sh, which has the functions that the session calls.
#
#   ```sh        run
#   ```sql       given to psql
#   ```yaml, c   written to the file that the text before names, as in "`measure.c`:"; YAML without
#                a name is checked as a configuration; other languages without a name are only shown
#   <!-- not run: WHY -->     before a block: it is not run
#   <!-- needs: PROGRAM -->   before a block: it is run where there is this program, or command of pgqrs
#   <!-- run: COMMAND -->     what the reader has done, or has anyway; .\" run: COMMAND
# Of a manual page, the displays in EXAMPLES are its blocks.

BEGIN {
    languages = " sh sql yaml c cpp rust python toml text ini "
    end = "END_OF_BLOCK"
}

function opens(language)
{
    inside = 1
    closing = ""
    if (index(languages, " " language " ") == 0) {
        printf "wrong 'a block of \"%s\"'\n", language
        skipped = 1
    } else if (why != "") {
        gsub(/'/, "", why)
        printf "not_run '%s'\n", why
        skipped = 1
    } else if (language == "sh") {
        print "runs_block"
    } else if (language == "sql") {
        printf "in_sql <<'%s'\n", end
        closing = end
    } else if (file != "") {
        printf "cat >'%s' <<'%s'\n", file, end
        closing = end
    } else if (language == "yaml") {
        printf "is_config <<'%s'\n", end
        closing = end
    } else {
        print ":"
        skipped = 1
    }
    why = file = ""
}

function closes()
{
    print closing
    inside = skipped = 0
}

function mdoc_text(line)
{
    gsub(/\\&/, "", line)
    gsub(/\\\(aq/, "'", line)
    gsub(/\\-/, "-", line)
    gsub(/\\e/, "\\", line)
    return line
}

FILENAME ~ /\.[1-8]$/ && /^\.\\" run: / { print mdoc_text(substr($0, 10)); next }
FILENAME ~ /\.[1-8]$/ {
    language = FILENAME ~ /\.5$/ ? "yaml" : FILENAME ~ /\.3$/ ? "c" : "sh"
    if ($1 == ".Sh") {
        examples = $2 == "EXAMPLES"
    }
    if (examples && $1 == ".Bd") {
        opens(language)
    } else if (inside && $1 == ".Ed") {
        closes()
    } else {
        print inside && !skipped ? mdoc_text($0) : ""
    }
    next
}

inside && /^```$/ { closes(); next }
inside { print skipped ? "" : $0; next }
/^```/ { opens(substr($0, 4)); next }
/^<!-- not run: .* -->$/ { why = substr($0, 15, length($0) - 18) }
/^<!-- needs: .* -->$/ {
    program = substr($0, 13, length($0) - 16)
    known = program ~ /^pgqrs / ? "build/bin/pgqrs --help | grep -q '^  " substr(program, 7) "'" : "command -v " program
    if (system(known " >/dev/null") != 0) {
        why = "there is no " program
    }
}
/^<!-- run: .* -->$/ { print substr($0, 11, length($0) - 14); next }
!/^$/ && !/^<!--/ {
    file = ""
    why = ""
    if (match($0, /`[^` ]+`:$/)) {
        file = substr($0, RSTART + 1, RLENGTH - 3)
    }
}
{ print "" }
END {
    if (inside) {
        print "wrong 'a block that does not end'"
    }
}
