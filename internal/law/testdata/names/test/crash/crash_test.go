// Package crash_test is black-box tests.
package crash_test
