#!/usr/bin/env bash
# Fetches a Debian package with a server or client that the integration tests run, for instance
#
#     tests/fetch-server.sh pebble sid
#     tests/fetch-server.sh lego bookworm
#
# and unpacks it to target/servers/PACKAGE/. It needs no root and installs nothing: apt works on
# lists, caches and sources of its own below target/servers/, and only reads the system's
# configuration, of which it takes the Debian mirror, its signing key and any proxy. Where the
# package is already there it does nothing.

set -euo pipefail

fail() {
    printf 'fetch-server.sh: %s\n' "$*" >&2
    exit 1
}

[ $# -eq 2 ] || fail "usage: fetch-server.sh PACKAGE SUITE"
package=$1
suite=$2

# The oldest version the tests work with, and the programs they start.
case $package in
pebble)
    minimum=2.10
    programs="pebble pebble-challtestsrv"
    ;;
lego)
    minimum=4.0
    programs="lego"
    ;;
*) fail "do not know the package '$package'" ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$target/servers"
servers=$(cd "$target/servers" && pwd)

complete() {
    local program
    for program in $programs; do
        [ -x "$servers/$package/usr/bin/$program" ] || return 1
    done
}

if complete; then
    exit 0
fi

for tool in apt-get dpkg dpkg-deb awk flock timeout; do
    command -v "$tool" >/dev/null || fail "cannot fetch $package: there is no $tool on this system"
done

# Two test processes may come here at once: the second waits, then finds the work done. The
# kernel drops the lock with the process that holds it, however that ends.
exec 9>"$servers/$package.lock"
flock -w 900 9 || fail "waited in vain for another process that fetches $package"
if complete; then
    exit 0
fi

work=$servers/$package.work
rm -rf "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/sources.d" \
    "$work/preferences.d" "$work/tree"
trap 'rm -rf "$work"' EXIT

# The system's source of Debian, in either of apt's two forms, as one deb822 stanza for the suite
# asked for. Vendors name their repositories .../debian too, so a source signed with Debian's
# archive key goes before one that names no key, and one with another key is left alone.
config_dir() {
    local value
    eval "$(apt-config shell value "$1")"
    printf '%s' "$value"
}
shopt -s nullglob
deb822=("$(config_dir Dir::Etc::sourceparts/d)"/*.sources)
oneline=("$(config_dir Dir::Etc::sourcelist/f)" "$(config_dir Dir::Etc::sourceparts/d)"/*.list)
{
    # `Field: value`, continued on lines that start with a blank, comments between them.
    for file in "${deb822[@]}"; do
        [ -r "$file" ] || continue
        awk '
            function finish() {
                if (types ~ /(^| )deb( |$)/ && enabled !~ /^(no|false)/)
                    printf "%s\t%s\n", uris, signed
                types = uris = signed = enabled = field = ""
            }
            /^#/ { next }
            /^[ \t]*$/ { finish(); next }
            /^[ \t]/ {
                sub(/^[ \t]+/, "")
                if (field == "uris") uris = uris " " $0
                if (field == "signed-by") signed = "a key in the file itself"
                next
            }
            {
                field = tolower($0); sub(/:.*/, "", field)
                value = $0; sub(/^[^:]*:[ \t]*/, "", value)
                if (field == "types") types = value
                if (field == "uris") uris = value
                if (field == "signed-by") signed = value
                if (field == "enabled") enabled = tolower(value)
            }
            END { finish() }
        ' "$file"
    done
    # `deb [option=value …] URI suite component …`
    for file in "${oneline[@]}"; do
        [ -r "$file" ] || continue
        awk '
            $1 != "deb" { next }
            {
                signed = ""
                if (match($0, /\[[^]]*\]/)) {
                    options = substr($0, RSTART + 1, RLENGTH - 2)
                    $0 = substr($0, 1, RSTART - 1) " " substr($0, RSTART + RLENGTH)
                    count = split(options, option, " ")
                    for (i = 1; i <= count; i++)
                        if (option[i] ~ /^signed-by=/) signed = substr(option[i], 11)
                }
                printf "%s\t%s\n", $2, signed
            }
        ' "$file"
    done
} | awk -F '\t' -v suite="$suite" -v arch="$(dpkg --print-architecture)" '
    {
        count = split($1, uri, " ")
        for (i = 1; i <= count; i++) {
            # A mirror list is a file: .../debian.list
            if (uri[i] !~ /\/debian(\.list)?\/?$/) continue
            rank = $2 ~ /debian-archive/ ? 2 : $2 == "" ? 1 : 0
            if (rank <= best) continue
            best = rank; best_uri = uri[i]; best_signed = $2
        }
    }
    END {
        if (!best) exit
        print "Types: deb"
        print "URIs: " best_uri
        print "Suites: " suite
        print "Components: main"
        print "Architectures: " arch
        print "Targets: Packages"
        print "PDiffs: no"
        if (best_signed != "") print "Signed-By: " best_signed
    }
' >"$work/sources.d/debian.sources"
[ -s "$work/sources.d/debian.sources" ] ||
    fail "cannot fetch $package: apt has no source of Debian on this system"

# Read after the system's own configuration, which stays in force for proxies and certificates.
# Its hooks would clean the system's caches, and its pins and installed packages would have a say
# in which version is a candidate.
: >"$work/status"
: >"$work/sources.list"
: >"$work/preferences"
cat >"$work/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Cache::archives "$work/cache/archives";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/sources.d";
Dir::Etc::preferences "$work/preferences";
Dir::Etc::preferencesparts "$work/preferences.d";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
CONF
# For root, apt fetches as a user of its own, who may not be able to enter the target directory.
if [ "$(id -u)" -eq 0 ]; then
    printf 'APT::Sandbox::User "root";\n' >>"$work/apt.conf"
fi

# The limit is for the whole command, where apt's own timeouts are for each silence of a server.
private_apt() {
    timeout 300 apt-get -c "$work/apt.conf" -qq "$@" </dev/null 9>&- >&2
}
# With --error-on=any (apt 2.1) a list that could not be fetched is an error, not a warning.
private_apt update --error-on=any || fail "cannot fetch $package: apt-get update failed for Debian $suite"
(cd "$work" && private_apt download "$package") ||
    fail "cannot fetch $package: apt-get download failed for Debian $suite"

set -- "$work/$package"_*.deb
[ $# -eq 1 ] || fail "cannot fetch $package: apt-get download left no package file"
version=$(dpkg-deb -f "$1" Version)
dpkg --compare-versions "$version" ge "$minimum" ||
    fail "Debian $suite has $package $version, the tests need $minimum or newer"

dpkg -x "$1" "$work/tree"
for program in $programs; do
    [ -x "$work/tree/usr/bin/$program" ] || fail "$package $version has no program $program"
    # ldd fails on a static program, which needs nothing.
    missing=$(ldd "$work/tree/usr/bin/$program" 2>&1 | grep 'not found' || true)
    [ -z "$missing" ] ||
        fail "$program $version needs shared libraries that this system does not have: $missing"
done

# By rename, so that nobody sees half a package.
rm -rf "${servers:?}/$package"
mv "$work/tree" "$servers/$package"
printf 'fetch-server.sh: fetched %s %s\n' "$package" "$version" >&2
