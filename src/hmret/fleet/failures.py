"""Why a request to etcd failed, and what an operator can do about it."""

from hmret.model.values import frozen

_STALE_TOKENS = (
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
)
_DENIED = "etcdserver: permission denied"
_NO_LEASE = "etcdserver: requested lease not found"
_OK = 200
_BAD_REQUEST = 400
_UNAUTHORIZED = 401
_FORBIDDEN = 403
_NOT_FOUND = 404
_TOO_MANY = 429


@frozen
class Failure:
    """A request to one endpoint that brought no result."""

    endpoint: str
    what: str
    """What happened, and the remedy."""
    was_sent: bool = True
    is_definite: bool = False
    """Whether the request was not carried out, and never will be."""
    wants_token: bool = False
    """Whether it was not carried out because the token is old, so that it may be sent again with a new one."""
    is_denied: bool = False
    """Whether user, password or role do not allow it."""
    is_lease_over: bool = False
    """Whether the lease that it names is not there."""

    def before_sending(self) -> "Failure":
        """Return this failure, which happened while a request was being prepared, as that of the request: it was never sent."""
        return Failure(self.endpoint, self.what, was_sent=False, is_denied=self.is_denied)

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.what}"


def not_connected(endpoint: str, reason: str) -> Failure:
    """Return the failure of a connection that was not made, so that nothing was sent."""
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        what = f"its certificate is not accepted ({reason}); check hmret.fleet.ca_file, and which host names the certificate covers"
    elif reason.startswith("TLS"):
        what = f"no TLS connection ({reason}); check that etcd serves https there, and hmret.fleet.ca_file"
    else:
        what = f"cannot connect ({reason}); check that etcd runs there, and hmret.fleet.endpoints"
    return Failure(endpoint, what, was_sent=False)


def no_answer(endpoint: str, reason: str, *, is_time_out: bool) -> Failure:
    """Return the failure of a request that was, or may have been, sent, and was not answered."""
    if is_time_out:
        what = f"etcd did not answer ({reason}); check that a majority of its members runs, and their disks"
    elif endpoint.startswith("https"):
        # One without the certificate that etcd wants is told so after the handshake, by the end of the connection.
        what = f"etcd ended the connection ({reason}); check hmret.fleet.cert_file and key_file, and that etcd runs"
    else:
        what = (
            f"etcd ended the connection ({reason}); check that it runs, and whether hmret.fleet.endpoints should "
            "say https"
        )
    return Failure(endpoint, what)


def malformed(endpoint: str, reason: str) -> Failure:
    """Return the failure of an answer that is not from etcd's gateway."""
    return Failure(
        endpoint,
        f"the answer is not from etcd's JSON gateway ({reason}); check hmret.fleet.endpoints, and that "
        "etcd's version is 3.4.22, 3.5.6 or newer",
    )


def too_large(endpoint: str, limit: int) -> Failure:
    """Return the failure of an answer that is larger than any expected."""
    return Failure(endpoint, f"the answer is larger than {limit >> 20} MiB; check hmret.fleet.endpoints")


def judge_status(endpoint: str, status: int, text: str) -> Failure | None:
    """Judge the status of an answer; None: it is a result.

    Only what etcd refuses before anything reaches its log is definite. It may carry out a transaction and
    then answer that it is full, with 429.

    Args:
        endpoint: who answered.
        status: the HTTP status.
        text: what it says is wrong.
    """
    if status == _OK:
        return None
    if status in {_BAD_REQUEST, _UNAUTHORIZED} and text in _STALE_TOKENS:
        what = f"{text}; set hmret.fleet.user and hmret.fleet.password_file to a user of etcd"
        return Failure(endpoint, what, is_definite=True, wants_token=True, is_denied=True)
    if status == _FORBIDDEN and text == _DENIED:
        what = f"{text}; grant the role of hmret.fleet.user readwrite on the prefix /hmret/"
        return Failure(endpoint, what, is_definite=True, is_denied=True)
    # guard(only-refusals-are-definite): If this host wrongly believes that a release was not carried out, its record
    # lists a copy as registered that is not.
    if status == _BAD_REQUEST:
        if "CommonName of client" in text:
            # So that nobody takes the name for a user: through the gateway it cannot be one.
            text = "the client certificate has a CommonName; make hmret.fleet.cert_file one without"
        return Failure(endpoint, f"etcd refuses the request: {text}", is_definite=True)
    if status == _NOT_FOUND and text == _NO_LEASE:
        return Failure(endpoint, text, is_lease_over=True)
    if "space exceeded" in text:
        what = (
            f"etcd is full ({text}); compact and defragment it or raise its quota, then etcdctl alarm disarm; "
            "hmret fleet status shows size and quota"
        )
    elif status == _TOO_MANY:
        what = f"etcd is overloaded ({text}); check its log, and whether its disk and CPU suffice"
    elif "no leader" in text or "timed out" in text or "unhealthy" in text:
        what = f"etcd has no quorum ({text}); check that a majority of its members runs, and their disks"
    else:
        what = f"etcd answers with HTTP {status}: {text or 'nothing'}; check its log"
    return Failure(endpoint, what)
