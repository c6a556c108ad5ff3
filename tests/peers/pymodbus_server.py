"""A pymodbus server for the tests: `pymodbus_server.py tcp` or `pymodbus_server.py rtu PORT`.

Prints `port N` (TCP, a free one) or `port PORT` when it can be asked, and ends with its standard input.
Unit 17: holding register a holds a * 3, input register a holds a + 1000, coil a is on where a is even, discrete input a where
a is divisible by 3; addresses 0 to 199 each.
"""

import asyncio
import sys

from pymodbus import ModbusDeviceIdentification
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

COUNT = 200


def device():
    bits = DataType.BITS
    words = DataType.REGISTERS
    identity = ModbusDeviceIdentification(
        info_name={"VendorName": "pymodbus", "ProductCode": "peer", "MajorMinorRevision": "1"}
    )
    blocks = (
        [SimData(0, values=[a % 2 == 0 for a in range(COUNT)], datatype=bits)],
        [SimData(0, values=[a % 3 == 0 for a in range(COUNT)], datatype=bits)],
        [SimData(0, values=[a * 3 for a in range(COUNT)], datatype=words)],
        [SimData(0, values=[a + 1000 for a in range(COUNT)], datatype=words)],
    )
    return SimDevice(id=17, simdata=blocks, identity=identity), identity


async def main():
    unit, identity = device()
    if sys.argv[1] == "tcp":
        server = ModbusTcpServer(unit, identity=identity, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        port = server.transport.sockets[0].getsockname()[1]
    else:
        port = sys.argv[2]
        server = ModbusSerialServer(
            unit, identity=identity, port=port, baudrate=115200, parity="N", ignore_missing_devices=True
        )
        await server.serve_forever(background=True)
    print(f"port {port}", flush=True)
    # The test holds the other end of standard input: the server must not outlive it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.shutdown()


asyncio.run(main())
