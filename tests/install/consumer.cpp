// A program that uses an installed Tenure from C++: it leads an election once.
#include <tenure.hpp>

#include <iostream>

int main()
{
    try {
        if (tenure::version() != TENURE_VERSION_STRING)
            throw std::runtime_error("header and library differ");
        auto service = tenure::service::open({{"endpoints", "memory://install"}, {"service", "install"}});
        auto campaign = service.campaign("");
        campaign.wait_leader(std::chrono::seconds(30));
        std::cout << "led with " << tenure::version() << '\n';
        service.close();
    } catch (const std::exception &failure) {
        std::cerr << failure.what() << '\n';
        return 1;
    }
}
