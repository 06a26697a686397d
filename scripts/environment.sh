# shellcheck shell=sh
# portside_environment ROOT LOCK: makes ROOT/.venv hold exactly what LOCK pins. Does nothing when it already does.

portside_fail() {
    printf 'portside: %s\n' "$1" >&2
    printf '  what to do: %s\n' "$2" >&2
    exit 3
}

portside_step() { printf '  %-34s' "$1" >&2; portside_started=$(date +%s); }
portside_done() { printf '%s (%s s)\n' "$1" "$(($(date +%s) - portside_started))" >&2; }

portside_environment() {
    root=$1 lock=$2
    venv="$root/.venv" stamp="$root/.venv/.portside-$2"
    if [ -x "$venv/bin/python" ] && cmp -s "$root/$lock" "$stamp"; then return 0; fi
    # A developer's environment holds the runtime's too: never take packages away.
    if [ "$lock" = requirements.lock ] && [ -x "$venv/bin/python" ] && cmp -s "$root/requirements-dev.lock" "$venv/.portside-requirements-dev.lock"; then return 0; fi
    python=
    for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$(command -v "$candidate"); break
        fi
    done
    [ -n "$python" ] || portside_fail "no python3 of version 3.11 or later was found" "install python3 (Debian 12 or later has it)"
    if [ ! -x "$venv/bin/pip" ]; then
        portside_step "virtual environment"
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
                apt-get update -qq >/dev/null 2>&1 || true
                DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null 2>&1 ||
                    portside_fail "python3 has no venv module and python3-venv could not be installed" "run: apt-get install python3-venv"
                python=/usr/bin/python3
            else
                portside_fail "python3 has no venv module" "install the package python3-venv (as root: apt-get install python3-venv)"
            fi
        fi
        rm -rf "$venv"
        "$python" -m venv "$venv" || portside_fail "the virtual environment $venv could not be made" "look at the message above; is the disk full or the folder read-only?"
        portside_done "made"
    fi
    portside_step "Python packages"
    log="$venv/portside-install.log"
    if ! "$venv/bin/pip" install -q --no-deps -r "$root/$lock" >"$log" 2>&1 || ! "$venv/bin/pip" install -q --no-deps --no-build-isolation -e "$root" >>"$log" 2>&1; then
        printf 'failed\n' >&2
        tail -n 5 "$log" >&2
        portside_fail "the Python packages of $lock could not be installed" "check that the package index is reachable, then run the same command again; the log is $log"
    fi
    cp "$root/$lock" "$stamp"
    portside_done "installed"
}
