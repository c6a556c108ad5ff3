/* Included before libmodbus's own unit-test-server.c, which listens on a fixed port or opens a fixed device: here it takes a free
 * port, or the device in MODBUS_PORT, prints `port ...` when it can be asked, and dies with the test that started it. */
#include <modbus.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static modbus_t *peer_new_tcp(const char *address, int port)
{
    (void) port;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return modbus_new_tcp(address, 0);
}

static int peer_tcp_listen(modbus_t *ctx, int connections)
{
    struct sockaddr_in bound;
    socklen_t size = sizeof(bound);
    int s = modbus_tcp_listen(ctx, connections);
    if (s >= 0 && getsockname(s, (struct sockaddr *) &bound, &size) == 0) {
        printf("port %d\n", ntohs(bound.sin_port));
        fflush(stdout);
    }
    return s;
}

static modbus_t *peer_new_rtu(const char *device, int baud, char parity, int data, int stop)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    device = getenv("MODBUS_PORT");
    return modbus_new_rtu(device, baud, parity, data, stop);
}

static int peer_connect(modbus_t *ctx)
{
    int rc = modbus_connect(ctx);
    if (rc == 0) {
        printf("port %s\n", getenv("MODBUS_PORT"));
        fflush(stdout);
    }
    return rc;
}

#define modbus_new_tcp peer_new_tcp
#define modbus_tcp_listen peer_tcp_listen
#define modbus_new_rtu peer_new_rtu
#define modbus_connect peer_connect
