#pragma once
// SCRIMP_OF_ISA(name): a name of its own for the ISA that this file is compiled for (SCRIMP_ISA_NAME, set by CMake).
#define SCRIMP_PASTE_(a, b) a##b
#define SCRIMP_PASTE(a, b) SCRIMP_PASTE_(a, b)
#define SCRIMP_TEXT_(a) #a
#define SCRIMP_TEXT(a) SCRIMP_TEXT_(a)
#define SCRIMP_OF_ISA(name) SCRIMP_PASTE(name##_, SCRIMP_ISA_NAME)
