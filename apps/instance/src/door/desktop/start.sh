# Makes way for the X server of the desktop and becomes it; run in the home, with the arguments of Xvnc.
# Once clients can connect, that writes the number of the display to standard output.
# Without arguments: tells by its status whether it could.
set -eu
umask 077
for program in Xvnc openbox xterm; do
    command -v "$program" >/dev/null || exit 127
done
[ $# -gt 0 ] || exit 0
# The directories of sockets and locks are ours alone, or our number is; what is there was left by a kill.
number=${DISPLAY#:}
[ -d /tmp/.X11-unix ] || mkdir -m 1777 /tmp/.X11-unix
rm -f "/tmp/.X$number-lock" "/tmp/.X11-unix/X$number" .cache/reef/vnc.sock
mkdir -p .cache/reef
# One entry of Xau(3): any address, any display, a cookie of 16 bytes.
{ printf '\377\377\000\000\000\000\000\022MIT-MAGIC-COOKIE-1\000\020'; head -c 16 /dev/urandom; } >"$XAUTHORITY"
exec Xvnc "$DISPLAY" -auth "$XAUTHORITY" "$@"
